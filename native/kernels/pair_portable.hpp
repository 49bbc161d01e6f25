#pragma once

// PairKernels in plain C++, the judge of the other levels. Internal linkage, as in walk_loop.hpp.

#include "kernels/pair_loop.hpp"

namespace belfry {
namespace {

inline float pair_distance(int32_t dot, float column_scale, float column_norm, float scale, float norm) {
  const float product = static_cast<float>(dot) * (column_scale * (-2 * scale));
  const float d = product + (column_norm + norm);
  return d > 0 ? d : 0;
}

struct PairPortable {
  static constexpr uint32_t kJoinRows = 1;

  static void pack(const uint8_t* codes, size_t stride, uint32_t groups, const uint32_t* rows, uint32_t count,
                   int8_t* blocks) {
    const uint32_t padded = (count + kPairBlockRows - 1) / kPairBlockRows * kPairBlockRows;
    for (uint32_t i = 0; i < padded; ++i) {
      const uint32_t at = i < count ? i : count - 1;
      const uint8_t* from = codes + (rows == nullptr ? at : rows[at]) * stride;
      int8_t* to = blocks + i / kPairBlockRows * size_t{groups} * 64 + i % kPairBlockRows * 4;
      for (uint32_t g = 0; g < groups; ++g) {
        const uint32_t four = load_four(from + size_t{g} * 4) ^ 0x80808080U;
        __builtin_memcpy(to + size_t{g} * 64, &four, sizeof four);
      }
    }
  }

  static uint32_t load_four(const uint8_t* from) {
    uint32_t four;
    __builtin_memcpy(&four, from, sizeof four);
    return four;
  }

  static void block_sums(const int8_t* block, const uint8_t* row, uint32_t groups, int32_t* sums) {
    for (uint32_t g = 0; g < groups; ++g, block += 64, row += 4) {
      for (uint32_t c = 0; c < kPairBlockRows; ++c) {
        for (uint32_t b = 0; b < 4; ++b) sums[c] += int32_t{block[c * 4 + b]} * int32_t{row[b]};
      }
    }
  }

  template <uint32_t kRows>
  static void tile(const JoinJob& job, uint32_t first, int32_t (*sums)[kPairTileRows]) {
    for (uint32_t r = 0; r < kRows; ++r) {
      __builtin_memcpy(*(sums + r), job.columns.offset, sizeof *sums);
      for (uint32_t b = 0; b < kPairTileRows / kPairBlockRows; ++b) {
        block_sums(job.columns.blocks + size_t{b} * job.columns.groups * 64, job.rows + (first + r) * job.stride,
                   job.columns.groups, *(sums + r) + b * kPairBlockRows);
      }
    }
  }

  static uint64_t near(const JoinJob& job, uint32_t row, const float*, const int32_t* sums, float* out) {
    uint64_t mask = 0;
    for (uint32_t c = 0; c < kPairTileRows; ++c) {
      out[c] = pair_distance(sums[c], job.columns.scale[c], job.columns.norm[c], job.scale[row], job.norm[row]);
      const float limit = job.limit[row] > job.column_limit[c] ? job.limit[row] : job.column_limit[c];
      mask |= uint64_t{out[c] < limit ? 1U : 0U} << c;
    }
    return mask;
  }

  static void strip(const uint8_t* row, size_t step, uint32_t flip, float scale, float norm, const PairColumns& columns,
                    uint32_t blocks, float* out) {
    const int8_t* block = columns.blocks;
    for (uint32_t b = 0; b < blocks; ++b) {
      int32_t sums[kPairBlockRows];
      __builtin_memcpy(sums, columns.offset + b * kPairBlockRows, sizeof sums);
      for (uint32_t g = 0; g < columns.groups; ++g, block += 64) {
        const uint32_t four = load_four(row + g * step) ^ flip;
        uint8_t bytes[4];
        __builtin_memcpy(bytes, &four, sizeof bytes);
        block_sums(block, bytes, 1, sums);
      }
      for (uint32_t c = 0; c < kPairBlockRows; ++c) {
        const uint32_t at = b * kPairBlockRows + c;
        out[at] = pair_distance(sums[c], columns.scale[at], columns.norm[at], scale, norm);
      }
    }
  }

  static void lower(const float* between, uint32_t blocks, float* nearest) {
    for (uint32_t i = 0; i < blocks * kPairBlockRows; ++i)
      nearest[i] = between[i] < nearest[i] ? between[i] : nearest[i];
  }

  static uint32_t farthest(const float* nearest, const float* inverse, uint32_t blocks) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < blocks * kPairBlockRows; ++i) {
      best = nearest[i] * inverse[i] > nearest[best] * inverse[best] ? i : best;
    }
    return best;
  }

  static uint32_t bits_of(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
  }

  // The limit is the `keep`-th smallest; found bit by bit, since floats from 0 up order like their bits, until a tried
  // value parts exactly `keep` from the others.
  static float cut(float* distances, uint32_t* rows, uint32_t count, uint32_t keep) {
    uint32_t limit = 0;  // fewer than `keep` are below it
    for (uint32_t bit = 1U << 30; bit != 0; bit >>= 1) {
      uint32_t below = 0, largest = 0;
      for (uint32_t i = 0; i < count; ++i) {
        if (bits_of(distances[i]) >= (limit | bit)) continue;
        ++below;
        largest = bits_of(distances[i]) > largest ? bits_of(distances[i]) : largest;
      }
      if (below == keep) return keep_up_to(largest, distances, rows, count, keep);
      if (below < keep) limit |= bit;
    }
    return keep_up_to(limit, distances, rows, count, keep);
  }

  static float keep_up_to(uint32_t limit, float* distances, uint32_t* rows, uint32_t count, uint32_t keep) {
    float largest;
    __builtin_memcpy(&largest, &limit, sizeof largest);
    uint32_t equal = keep, kept = 0;
    for (uint32_t i = 0; i < count; ++i) equal -= distances[i] < largest ? 1 : 0;
    for (uint32_t i = 0; i < count; ++i) {
      const bool tie = distances[i] == largest;
      if (distances[i] > largest || (tie && equal == 0)) continue;
      equal -= tie ? 1 : 0;
      distances[kept] = distances[i];
      rows[kept++] = rows[i];
    }
    return largest;
  }
};

}  // namespace
}  // namespace belfry
