#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace belfry {

// Rows of `width` words, gathered. Row i goes to out[at + i * stride], a word to each `step`-th place; a negative row
// leaves its places as they are. False, with nothing written, where a row is not in the table or its places are not in
// `out`.
struct RowCopy {
  std::span<const int32_t> table;
  size_t width = 1;
  std::span<const int32_t> rows;
  std::span<int32_t> out;
  size_t stride = 1;
  size_t at = 0;
  size_t step = 1;
};

bool copy_rows(const RowCopy& job);

}  // namespace belfry
