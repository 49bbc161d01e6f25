#pragma once

// The loops of PairKernels, written once and compiled for each kernel level, with internal linkage as in walk_loop.hpp.
//
// Level provides, with the same bits on every level:
//   kJoinRows                                  rows that `tile` handles at the most
//   template <uint32_t kRows> tile(job, first, sums)      integer dots of kRows rows with the 64 columns
//   near(job, row, reach, sums, distances)     distances of one row; returns the mask of those within a limit.
//                                              reach = norm * (1 - kReachSlack) is for a quick test before
//   strip(row, step, flip, scale, norm, columns, blocks, out)   distances of one row, which has 4 bytes every `step`
//                                              that xor with `flip` makes bytes c + 128
//   lower(between, blocks, nearest)            nearest = the smaller of both
//   farthest(nearest, inverse, blocks)         position of the first largest nearest * inverse
//   pack, cut                                  as in PairKernels

#include <limits>

#include "kernels/pair_job.hpp"

namespace belfry {
namespace {

// Far more than f32 can lose of a distance, in parts of the two norms.
inline constexpr float kReachSlack = 1e-5F;

template <class Level, uint32_t kRows>
inline uint32_t join_rows(const JoinJob& job, const float* reach, uint32_t first, JoinHit* hits, uint32_t count) {
  alignas(64) int32_t sums[kRows][kPairTileRows];
  alignas(64) float distances[kPairTileRows];
  Level::template tile<kRows>(job, first, sums);
  for (uint32_t i = 0; i < kRows; ++i) {
    const uint32_t row = first + i;
    uint64_t mask = Level::near(job, row, reach, sums[i], distances) & job.present;
    for (; mask != 0; mask &= mask - 1) {
      const auto column = static_cast<uint32_t>(__builtin_ctzll(mask));
      hits[count++] = {row, column, distances[column]};
    }
  }
  return count;
}

template <class Level, uint32_t kRows = Level::kJoinRows>
inline uint32_t join_rest(const JoinJob& job, const float* reach, uint32_t first, JoinHit* hits, uint32_t count) {
  if constexpr (kRows == 0) {
    return count;
  } else {
    return job.count - first >= kRows ? join_rows<Level, kRows>(job, reach, first, hits, count)
                                      : join_rest<Level, kRows - 1>(job, reach, first, hits, count);
  }
}

template <class Level>
uint32_t join(const JoinJob& job, JoinHit* hits) {
  alignas(64) float reach[kPairTileRows];
  for (uint32_t c = 0; c < kPairTileRows; ++c) reach[c] = job.columns.norm[c] * (1 - kReachSlack);
  uint32_t count = 0, first = 0;
  for (; first + Level::kJoinRows <= job.count; first += Level::kJoinRows) {
    count = join_rows<Level, Level::kJoinRows>(job, reach, first, hits, count);
  }
  return first < job.count ? join_rest<Level>(job, reach, first, hits, count) : count;
}

template <class Level>
void distances(const uint8_t* row, float scale, float norm, const PairColumns& columns, uint32_t blocks, float* out) {
  Level::strip(row, 4, 0, scale, norm, columns, blocks, out);
}

inline PairColumns columns_from(const PairColumns& all, uint32_t block) {
  const size_t column = size_t{block} * kPairBlockRows;
  return {all.groups, all.blocks + column * all.groups * 4, all.scale + column, all.norm + column, all.offset + column};
}

template <class Level>
uint32_t select(const SelectJob& job) {
  const uint32_t blocks = (job.count + kPairBlockRows - 1) / kPairBlockRows;
  alignas(64) float between[kSelectMax], nearest[kSelectMax], inverse[kSelectMax];
  uint64_t chosen[kSelectMax / 64] = {};
  for (uint32_t i = 0; i < blocks * kPairBlockRows; ++i) {
    const bool present = i < job.count;
    nearest[i] = present ? std::numeric_limits<float>::max() : 0;
    inverse[i] = present && job.distance[i] > 0 ? 1 / job.distance[i] : 0;
  }
  uint32_t count = 0;
  const auto choose = [&](uint32_t at) {
    chosen[at / 64] |= uint64_t{1} << (at % 64);
    ++count;
    if (count == job.wanted) return;
    // It stands in for farther candidates only: those from the same block on, less the nearer ones in it.
    const uint32_t block = at / kPairBlockRows, first = block * kPairBlockRows, lane = at - first;
    const PairColumns rest = columns_from(job.candidates, block);
    Level::strip(reinterpret_cast<const uint8_t*>(rest.blocks) + lane * 4, 64, 0x80808080U, job.candidates.scale[at],
                 job.candidates.norm[at], rest, blocks - block, between);
    for (uint32_t i = 0; i < lane; ++i) between[i] = std::numeric_limits<float>::max();
    Level::lower(between, blocks - block, nearest + first);
    nearest[at] = 0;  // never again
  };
  for (uint32_t at = 0; at < job.count && count < job.wanted; ++at) {
    if (job.distance[at] < nearest[at]) choose(at);
  }
  while (count < job.wanted) {
    const uint32_t at = Level::farthest(nearest, inverse, blocks);
    if (!(nearest[at] * inverse[at] * job.alpha >= 1)) break;
    choose(at);
  }
  uint32_t* out = job.selected;
  for (uint32_t word = 0; word * 64 < job.count; ++word) {
    for (uint64_t bits = chosen[word]; bits != 0; bits &= bits - 1) {
      *out++ = word * 64 + static_cast<uint32_t>(__builtin_ctzll(bits));
    }
  }
  return count;
}

template <class Level>
constexpr PairKernels pair_kernels() {
  return {Level::pack, join<Level>, distances<Level>, select<Level>, Level::cut};
}

}  // namespace
}  // namespace belfry
