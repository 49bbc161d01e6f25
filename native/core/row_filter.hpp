#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/error.hpp"

namespace belfry {

// Which rows may be returned: one 64-bit word per 64 rows, bit r & 63 of word r >> 6. Bits past the last row are 0.
class RowFilter {
 public:
  explicit RowFilter(size_t rows) : rows_(rows), words_((rows + 63) / 64, ~uint64_t{0}) { trim(); }

  // Bit r is bit r & 7 of byte r >> 3; `bytes` holds ceil(rows / 8).
  void keep(const uint8_t* bytes) {
    const size_t count = (rows_ + 7) / 8;
    for (size_t w = 0; w < words_.size(); ++w) {
      uint64_t word = 0;
      const size_t left = count - w * 8;
      for (size_t b = 0; b < (left < 8 ? left : 8); ++b) word |= uint64_t{bytes[w * 8 + b]} << (8 * b);
      words_[w] &= word;
    }
  }
  void drop(uint32_t row) { words_[row >> 6] &= ~(uint64_t{1} << (row & 63)); }

  bool allows(uint32_t row) const noexcept { return (words_[row >> 6] >> (row & 63)) & 1; }
  size_t count() const noexcept {
    size_t total = 0;
    for (uint64_t word : words_) total += static_cast<size_t>(__builtin_popcountll(word));
    return total;
  }
  std::vector<uint32_t> to_rows() const {
    std::vector<uint32_t> rows;
    rows.reserve(count());
    for (size_t w = 0; w < words_.size(); ++w) {
      for (uint64_t word = words_[w]; word != 0; word &= word - 1) {
        rows.push_back(static_cast<uint32_t>(w * 64 + static_cast<size_t>(__builtin_ctzll(word))));
      }
    }
    return rows;
  }
  const uint64_t* words() const noexcept { return words_.data(); }

 private:
  void trim() {
    if (rows_ % 64 != 0) words_.back() &= (uint64_t{1} << (rows_ % 64)) - 1;
  }

  size_t rows_;
  std::vector<uint64_t> words_;
};

}  // namespace belfry
