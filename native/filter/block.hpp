#pragma once

#include <cstddef>
#include <cstdint>

namespace belfry {

// A range of rows that is evaluated at once: whole 64-bit words of a bitmap. Bits past the last row may be anything.
struct Block {
  static constexpr size_t kWordsMax = 1024;  // 65,536 rows: the bitmaps of one evaluation stay in the L2 cache

  size_t first_word;
  size_t words;

  uint32_t first_row() const noexcept { return static_cast<uint32_t>(first_word * 64); }
  uint64_t end_row() const noexcept { return (uint64_t{first_word} + words) * 64; }
};

}  // namespace belfry
