#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "filter/block.hpp"

namespace belfry {

// For each word of a dictionary the rows that hold it. Rare words have a sorted list of rows; a word whose list would
// be as long as a bitmap of all rows has that bitmap. So memory is at most 4 bytes an entry and 4 a word, and a filter
// on one value costs a pass over 1/32 of the rows at the most.
class Postings {
 public:
  Postings() = default;
  // Entry i of `codes` belongs to row i. Codes below 0 belong to none. Others are below `words`.
  Postings(const std::vector<int32_t>& codes, uint32_t rows, uint32_t words);
  // Row r holds codes[offsets[r]] .. codes[offsets[r + 1]], duplicates allowed.
  Postings(const std::vector<int32_t>& codes, const std::vector<uint32_t>& offsets, uint32_t rows, uint32_t words);

  // Sets the bits of the word's rows within the block; `out` holds block.words words.
  void add(uint32_t word, const Block& block, uint64_t* out) const noexcept;
  // Clears the bits of all other rows.
  void keep(uint32_t word, const Block& block, uint64_t* out) const noexcept;

  uint32_t words() const noexcept { return static_cast<uint32_t>(starts_.size() - 1); }
  size_t bytes() const noexcept { return (starts_.size() + pool_.size()) * sizeof(uint32_t); }

 private:
  template <class Each>
  void build(uint32_t rows, uint32_t words, const Each& each);
  bool is_bitmap(uint32_t word) const noexcept { return starts_[word + 1] - starts_[word] == bitmap_length_; }

  std::vector<uint32_t> starts_{0};  // of each word's rows in pool_; one more at the end
  std::vector<uint32_t> pool_;       // lists of rows, and bitmaps as pairs of halves of 64-bit words
  size_t bitmap_length_ = 0;         // in entries of pool_
};

}  // namespace belfry
