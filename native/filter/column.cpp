#include "filter/column.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "core/error.hpp"

namespace belfry {

namespace {

// One byte per row, 0 or 1, as one bit per row.
uint64_t pack_bits(const uint8_t flags[64]) noexcept {
  uint64_t word = 0;
  for (size_t i = 0; i < 8; ++i) {
    uint64_t eight;
    std::memcpy(&eight, flags + 8 * i, sizeof eight);
    // The product's top byte gathers bit 0 of each byte: byte j is shifted to bit 56 + j, and no two sums meet.
    word |= (eight * 0x0102040810204080ULL >> 56) << (8 * i);
  }
  return word;
}

void set_bit(std::vector<uint64_t>& words, uint32_t row) { words[row / 64] |= uint64_t{1} << (row % 64); }

void copy_words(const std::vector<uint64_t>& from, const Block& block, uint64_t* out) noexcept {
  std::memcpy(out, from.data() + block.first_word, block.words * sizeof(uint64_t));
}

}  // namespace

Column::Column(ColumnData data) : data_(std::move(data)) {
  check();
  const uint32_t rows = data_.rows;
  present_.resize((size_t{rows} + 63) / 64);
  switch (data_.kind) {
    case ColumnKind::kNumber:
      for (uint32_t row = 0; row < rows; ++row) {
        if (!std::isnan(data_.numbers[row])) set_bit(present_, row);
      }
      data_.numbers.resize(present_.size() * 64, std::numeric_limits<double>::quiet_NaN());  // whole words
      return;
    case ColumnKind::kBoolean:
      true_.resize(present_.size());
      for (uint32_t row = 0; row < rows; ++row) {
        if (data_.flags[row] != 2) set_bit(present_, row);
        if (data_.flags[row] == 1) set_bit(true_, row);
      }
      data_.flags = {};
      return;
    case ColumnKind::kString:
      for (uint32_t row = 0; row < rows; ++row) {
        if (data_.codes[row] >= 0) set_bit(present_, row);
      }
      postings_ = Postings(data_.codes, rows, data_.words);
      data_.codes = {};
      return;
    case ColumnKind::kStringList:
    case ColumnKind::kNumberList:
      for (uint32_t row = 0; row < rows; ++row) {
        if (data_.offsets[row + 1] > data_.offsets[row]) set_bit(present_, row);
      }
      if (data_.kind == ColumnKind::kNumberList) return;
      postings_ = Postings(data_.codes, data_.offsets, rows, data_.words);
      data_.codes = {};
      data_.offsets = {};
      return;
  }
}

void Column::check() const {
  const auto expect_length = [](const char* field, size_t expected, size_t received) {
    if (expected != received)
      throw invalid_argument(field, std::to_string(expected) + " values", std::to_string(received));
  };
  const bool is_list = data_.kind == ColumnKind::kStringList || data_.kind == ColumnKind::kNumberList;
  size_t entries = data_.rows;
  if (is_list) {
    expect_length("offsets", size_t{data_.rows} + 1, data_.offsets.size());
    for (uint32_t row = 0; row < data_.rows; ++row) {
      if (data_.offsets[row] > data_.offsets[row + 1]) {
        throw invalid_argument("offsets", "numbers that never fall",
                               std::to_string(data_.offsets[row + 1]) + " after " + std::to_string(data_.offsets[row]));
      }
    }
    if (data_.offsets[0] != 0) throw invalid_argument("offsets", "0 first", std::to_string(data_.offsets[0]));
    entries = data_.offsets[data_.rows];
  }
  if (holds_numbers()) expect_length("values", entries, data_.numbers.size());
  if (data_.kind == ColumnKind::kBoolean) {
    expect_length("values", entries, data_.flags.size());
    for (uint8_t flag : data_.flags) {
      if (flag > 2) throw invalid_argument("values", "0, 1 or 2", std::to_string(flag));
    }
  }
  if (holds_strings()) {
    expect_length("codes", entries, data_.codes.size());
    for (int32_t code : data_.codes) {
      if (code < (is_list ? 0 : -1) || code >= static_cast<int64_t>(data_.words)) {
        throw invalid_argument("codes", "codes below " + std::to_string(data_.words), std::to_string(code));
      }
    }
  }
}

size_t Column::bytes() const noexcept {
  return data_.numbers.size() * sizeof(double) + data_.offsets.size() * sizeof(uint32_t) + postings_.bytes() +
         (present_.size() + true_.size()) * sizeof(uint64_t);
}

void Column::present(const Block& block, uint64_t* out) const noexcept { copy_words(present_, block, out); }

void Column::equals(bool value, const Block& block, uint64_t* out) const noexcept {
  copy_words(true_, block, out);
  if (value) return;
  for (size_t w = 0; w < block.words; ++w) out[w] = present_[block.first_word + w] & ~out[w];
}

void Column::any_word(std::span<const uint32_t> words, const Block& block, uint64_t* out) const noexcept {
  std::fill_n(out, block.words, 0);
  for (uint32_t word : words) postings_.add(word, block, out);
}

void Column::every_word(std::span<const uint32_t> words, const Block& block, uint64_t* out) const noexcept {
  any_word(words.first(1), block, out);
  for (uint32_t word : words.subspan(1)) postings_.keep(word, block, out);
}

template <class Fits>
void Column::each_value(const Block& block, uint64_t* out, const Fits& fits) const noexcept {
  const double* values = data_.numbers.data() + block.first_word * 64;
  for (size_t w = 0; w < block.words; ++w, values += 64) {
    uint8_t flags[64];
    for (size_t i = 0; i < 64; ++i) flags[i] = static_cast<uint8_t>(fits(values[i]));
    out[w] = pack_bits(flags);
  }
}

// fits(first entry, end of entries) of each row.
template <class Fits>
void Column::each_list(const Block& block, uint64_t* out, const Fits& fits) const noexcept {
  std::fill_n(out, block.words, 0);
  const uint32_t begin = block.first_row();
  const uint32_t end = static_cast<uint32_t>(std::min<uint64_t>(data_.rows, block.end_row()));
  const double* entries = data_.numbers.data();
  for (uint32_t row = begin; row < end; ++row) {
    const uint64_t bit = fits(entries + data_.offsets[row], entries + data_.offsets[row + 1]);
    out[(row - begin) / 64] |= bit << (row % 64);
  }
}

template <class Fits>
void Column::any_entry(const Block& block, uint64_t* out, const Fits& fits) const noexcept {
  each_list(block, out, [&](const double* at, const double* end) {
    bool found = false;
    for (; at != end; ++at) found = found | fits(*at);  // to the end: a branch that cannot be foreseen costs more
    return found;
  });
}

void Column::in_range(double low, double high, const Block& block, uint64_t* out) const noexcept {
  // Without a branch, so that the compiler makes vectors of it. NaN compares false.
  const auto fits = [low, high](double value) { return (value >= low) & (value <= high); };
  if (data_.kind == ColumnKind::kNumber) return each_value(block, out, fits);
  any_entry(block, out, fits);
}

void Column::any_number(const NumberSet& wanted, const Block& block, uint64_t* out) const noexcept {
  if (wanted.size() == 1) return in_range(wanted.sorted()[0], wanted.sorted()[0], block, out);
  const auto fits = [&](double value) { return wanted.has(value); };
  if (data_.kind == ColumnKind::kNumber) return each_value(block, out, fits);
  any_entry(block, out, fits);
}

void Column::every_number(const NumberSet& wanted, const Block& block, uint64_t* out) const {
  const std::vector<double>& sorted = wanted.sorted();
  // The number of the list that last held each value, so that an entry that stands twice counts once.
  std::vector<uint32_t> last(sorted.size(), 0);
  uint32_t list = 0;
  each_list(block, out, [&](const double* at, const double* end) {
    ++list;
    size_t missing = sorted.size();
    for (; at != end && missing > 0; ++at) {
      const auto found = std::lower_bound(sorted.begin(), sorted.end(), *at);
      if (found == sorted.end() || *found != *at) continue;  // NaN is found nowhere: it equals nothing
      uint32_t& seen = last[static_cast<size_t>(found - sorted.begin())];
      if (seen != list) --missing;
      seen = list;
    }
    return missing == 0;
  });
}

}  // namespace belfry
