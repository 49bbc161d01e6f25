#include "filter/postings.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace belfry {

Postings::Postings(const std::vector<int32_t>& codes, uint32_t rows, uint32_t words) {
  build(rows, words, [&](const auto& take) {
    for (uint32_t row = 0; row < rows; ++row) {
      if (codes[row] >= 0) take(static_cast<uint32_t>(codes[row]), row);
    }
  });
}

Postings::Postings(const std::vector<int32_t>& codes, const std::vector<uint32_t>& offsets, uint32_t rows,
                   uint32_t words) {
  build(rows, words, [&](const auto& take) {
    for (uint32_t row = 0; row < rows; ++row) {
      for (uint32_t at = offsets[row]; at < offsets[row + 1]; ++at) take(static_cast<uint32_t>(codes[at]), row);
    }
  });
}

// `each(take)` calls take(word, row) for every entry, by ascending row: once to count, once to fill.
template <class Each>
void Postings::build(uint32_t rows, uint32_t words, const Each& each) {
  bitmap_length_ = (size_t{rows} + 63) / 64 * 2;
  constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  std::vector<uint32_t> last(words, kNone);  // the row that was counted last, so that an entry that stands twice is one
  std::vector<uint32_t> counts(words, 0);
  each([&](uint32_t word, uint32_t row) {
    if (last[word] == row) return;
    last[word] = row;
    ++counts[word];
  });
  starts_.resize(size_t{words} + 1);
  for (uint32_t word = 0; word < words; ++word) {
    starts_[word + 1] = starts_[word] + static_cast<uint32_t>(std::min<size_t>(counts[word], bitmap_length_));
  }
  pool_.resize(starts_[words]);
  std::fill(last.begin(), last.end(), kNone);
  std::fill(counts.begin(), counts.end(), 0);
  each([&](uint32_t word, uint32_t row) {
    uint32_t* own = pool_.data() + starts_[word];
    if (is_bitmap(word)) {
      own[row / 32] |= uint32_t{1} << (row % 32);
    } else if (last[word] != row) {
      own[counts[word]++] = row;
      last[word] = row;
    }
  });
}

void Postings::add(uint32_t word, const Block& block, uint64_t* out) const noexcept {
  const uint32_t* first = pool_.data() + starts_[word];
  if (is_bitmap(word)) {
    for (size_t w = 0; w < block.words; ++w) {
      uint64_t bits;  // two halves, low one first
      std::memcpy(&bits, first + (block.first_word + w) * 2, sizeof bits);
      out[w] |= bits;
    }
    return;
  }
  const uint32_t* last = pool_.data() + starts_[word + 1];
  const uint32_t begin = block.first_row();
  const uint64_t end = block.end_row();
  for (const uint32_t* row = std::lower_bound(first, last, begin); row != last && *row < end; ++row) {
    out[(*row - begin) / 64] |= uint64_t{1} << (*row % 64);
  }
}

void Postings::keep(uint32_t word, const Block& block, uint64_t* out) const noexcept {
  uint64_t own[Block::kWordsMax] = {};
  add(word, block, own);
  for (size_t w = 0; w < block.words; ++w) out[w] &= own[w];
}

}  // namespace belfry
