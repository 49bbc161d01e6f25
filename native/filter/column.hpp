#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "filter/block.hpp"
#include "filter/number_set.hpp"
#include "filter/postings.hpp"

namespace belfry {

enum class ColumnKind : uint8_t { kNumber, kBoolean, kString, kStringList, kNumberList };

// A column as its owner has it, row-major; what a Column is made from. Only the vectors of the kind are filled.
struct ColumnData {
  ColumnKind kind = ColumnKind::kNumber;
  uint32_t rows = 0;
  uint32_t words = 0;             // of the dictionary of strings
  std::vector<double> numbers;    // number: one a row, NaN is null; number list: the entries
  std::vector<uint8_t> flags;     // boolean: 0, 1, or 2 for null
  std::vector<int32_t> codes;     // string: one a row, -1 is null; string list: the entries
  std::vector<uint32_t> offsets;  // lists: rows + 1 starts of entries
};

// A metadata column of all items, laid out for filters. Immutable, so any number of threads may read it. Every function
// writes block.words words; bits past the last row may be anything.
//   strings         postings (an inverted index): equality never reads a row
//   booleans        two bitmaps
//   numbers, lists  the values, compared 64 rows at a time
class Column {
 public:
  // Takes the data apart. Throws BELFRY_INVALID_ARGUMENT when a length, code or offset does not fit.
  explicit Column(ColumnData data);

  ColumnKind kind() const noexcept { return data_.kind; }
  uint32_t rows() const noexcept { return data_.rows; }
  uint32_t words() const noexcept { return data_.words; }
  size_t bytes() const noexcept;
  bool holds_numbers() const noexcept {
    return data_.kind == ColumnKind::kNumber || data_.kind == ColumnKind::kNumberList;
  }
  bool holds_strings() const noexcept {
    return data_.kind == ColumnKind::kString || data_.kind == ColumnKind::kStringList;
  }

  // Rows that hold a value; a list is there when it is not empty.
  void present(const Block& block, uint64_t* out) const noexcept;
  // Booleans.
  void equals(bool value, const Block& block, uint64_t* out) const noexcept;
  // Strings: rows that hold one of the words, or all of them.
  void any_word(std::span<const uint32_t> words, const Block& block, uint64_t* out) const noexcept;
  void every_word(std::span<const uint32_t> words, const Block& block, uint64_t* out) const noexcept;
  // Numbers: rows with a value in [low, high], or one of the set.
  void in_range(double low, double high, const Block& block, uint64_t* out) const noexcept;
  void any_number(const NumberSet& wanted, const Block& block, uint64_t* out) const noexcept;
  // Lists of numbers: rows that hold all of the set.
  void every_number(const NumberSet& wanted, const Block& block, uint64_t* out) const;

 private:
  void check() const;
  template <class Fits>
  void each_value(const Block& block, uint64_t* out, const Fits& fits) const noexcept;
  template <class Fits>
  void any_entry(const Block& block, uint64_t* out, const Fits& fits) const noexcept;
  template <class Fits>
  void each_list(const Block& block, uint64_t* out, const Fits& fits) const noexcept;

  ColumnData data_;
  Postings postings_;
  std::vector<uint64_t> present_, true_;
};

}  // namespace belfry
