#pragma once

// What the files of the exact search share; nobody else includes it.

#include <algorithm>
#include <cfloat>
#include <cstddef>
#include <cstdint>

#include "index/exact_index.hpp"
#include "index/search_types.hpp"

namespace belfry {

struct ExactIndex::Batch {
  const float* queries;
  size_t count;
  const SearchParams& params;
  Hits hits;
};

// Beyond f32 a score stays at its end instead of becoming infinite, which JSON could not carry.
inline float to_f32(double score) noexcept {
  return static_cast<float>(std::clamp(score, -double{FLT_MAX}, double{FLT_MAX}));
}

// How a batch is cut into tasks: `groups` of queries times `splits` of rows. Splitting queries needs no merge and is
// preferred; rows are split when there are too few queries to occupy the threads.
struct TaskGrid {
  size_t group, groups;         // queries of a group, number of groups
  uint32_t split_rows, splits;  // rows of a split (a multiple of 64), number of splits

  TaskGrid(size_t queries, size_t group_max, size_t group_min, uint32_t rows, uint32_t split_rows_min, size_t threads) {
    groups = (queries + group_max - 1) / group_max;
    const size_t useful = std::max<size_t>(1, queries / group_min);
    if (groups < threads) groups = std::max(groups, std::min(threads, useful));
    group = (queries + groups - 1) / groups;
    groups = (queries + group - 1) / group;
    size_t wanted = groups >= threads ? 1 : (threads + groups - 1) / groups;
    wanted = std::clamp<size_t>(rows / std::max<uint32_t>(1, split_rows_min), 1, wanted);
    const size_t each = (rows + wanted - 1) / wanted;
    split_rows = static_cast<uint32_t>((each + 63) / 64 * 64);
    splits = std::max<uint32_t>(1, (rows + split_rows - 1) / std::max<uint32_t>(1, split_rows));
  }
  size_t tasks() const noexcept { return groups * splits; }
};

}  // namespace belfry
