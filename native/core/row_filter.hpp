#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace belfry {

// Which rows may be returned: one 64-bit word per 64 rows, bit r & 63 of word r >> 6. Bits past the last row are 0, and
// the number of set bits is always known.
class RowFilter {
 public:
  // Allows every row.
  explicit RowFilter(size_t rows) : RowFilter(rows, std::vector<uint64_t>((rows + 63) / 64, ~uint64_t{0})) {}
  // Allows the rows whose bits are set in `words`, of which there are ceil(rows / 64).
  RowFilter(size_t rows, std::vector<uint64_t> words) : rows_(rows), words_(std::move(words)) {
    if (rows_ % 64 != 0) words_.back() &= (uint64_t{1} << (rows_ % 64)) - 1;
    for (uint64_t word : words_) count_ += static_cast<size_t>(__builtin_popcountll(word));
  }
  // Bit r is bit r & 7 of byte r >> 3; `bytes` holds ceil(rows / 8).
  static RowFilter from_bytes(size_t rows, const uint8_t* bytes) {
    std::vector<uint64_t> words((rows + 63) / 64);
    for (size_t i = 0; i < (rows + 7) / 8; ++i) words[i / 8] |= uint64_t{bytes[i]} << (8 * (i % 8));
    return RowFilter(rows, std::move(words));
  }

  void drop(uint32_t row) {
    renumbered_.reset();  // what others made of the rows before
    uint64_t& word = words_[row >> 6];
    const uint64_t bit = uint64_t{1} << (row & 63);
    count_ -= (word & bit) != 0;
    word &= ~bit;
  }

  // The same rows under another numbering, made by `make` at the first call and kept for the numbering used last: a
  // filter that serves many searches serves one index. Any number of threads may call this.
  template <class Make>
  std::shared_ptr<const RowFilter> renumbered(uint64_t numbering, const Make& make) const {
    if (renumbered_ == nullptr) return std::make_shared<const RowFilter>(make());
    const std::lock_guard<std::mutex> lock(renumbered_->mutex);
    if (renumbered_->filter == nullptr || renumbered_->numbering != numbering) {
      renumbered_->filter = std::make_shared<const RowFilter>(make());
      renumbered_->numbering = numbering;
    }
    return renumbered_->filter;
  }

  bool allows(uint32_t row) const noexcept { return (words_[row >> 6] >> (row & 63)) & 1; }
  size_t rows() const noexcept { return rows_; }
  // Rows that are allowed.
  size_t count() const noexcept { return count_; }
  std::vector<uint32_t> to_rows() const {
    std::vector<uint32_t> rows;
    rows.reserve(count_);
    append_rows(0, rows_, rows);
    return rows;
  }
  // Appends the allowed ones of rows begin .. end - 1.
  void append_rows(size_t begin, size_t end, std::vector<uint32_t>& rows) const {
    for (size_t w = begin / 64; w * 64 < end; ++w) {
      uint64_t word = words_[w];
      if (w * 64 < begin) word &= ~uint64_t{0} << (begin % 64);
      if (end - w * 64 < 64) word &= (uint64_t{1} << (end % 64)) - 1;
      for (; word != 0; word &= word - 1) {
        rows.push_back(static_cast<uint32_t>(w * 64 + static_cast<size_t>(__builtin_ctzll(word))));
      }
    }
  }
  const uint64_t* words() const noexcept { return words_.data(); }

 private:
  size_t rows_;
  std::vector<uint64_t> words_;
  size_t count_ = 0;

  struct Renumbered {
    std::mutex mutex;
    uint64_t numbering = 0;
    std::shared_ptr<const RowFilter> filter;
  };
  std::shared_ptr<Renumbered> renumbered_ = std::make_shared<Renumbered>();
};

}  // namespace belfry
