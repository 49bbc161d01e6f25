#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/row_filter.hpp"
#include "filter/column.hpp"

namespace belfry {

// A filter as plain data: steps that each push the bitmap of a test on a stack, or join the two on top into one. The
// numbers of this list are those of FILTER_OPS in src/features/filter-program.ts.
enum class FilterOp : uint32_t {
  kAll,          // every row
  kRows,         // the rows codes[first .. first + count)
  kPresent,      // rows with a value in the column
  kIsTrue,       // of a boolean column
  kIsFalse,      // likewise
  kAnyWord,      // of a column of strings: one of the words codes[first .. first + count)
  kEveryWord,    // all of them; count is at least 1
  kInRange,      // of a column of numbers: between numbers[first] and numbers[first + 1]; count holds kOpenBelow,
                 // kOpenAbove
  kAnyNumber,    // one of numbers[first .. first + count)
  kEveryNumber,  // of a column of lists of numbers: all of them
  kAnd,          // both of the two on top
  kOr,           // one of them
  kAndNot,       // the lower one and not the upper one
};
inline constexpr uint32_t kFilterOps = 13;
inline constexpr uint32_t kOpenBelow = 1, kOpenAbove = 2;

struct FilterStep {
  FilterOp op;
  uint32_t column, first, count;
};

struct FilterProgram {
  std::vector<FilterStep> steps;
  std::vector<uint32_t> codes;
  std::vector<double> numbers;
  std::vector<NumberSet> sets = {};  // made of `numbers` when the program is prepared
};

// Which rows pass. Runs on the pool, on at most `threads` threads. Columns have `rows` rows each.
// Throws BELFRY_INVALID_ARGUMENT for a program that is not well-formed, BELFRY_DEADLINE_EXCEEDED soon after `deadline`.
std::shared_ptr<const RowFilter> evaluate_filter(FilterProgram program,
                                                 const std::vector<std::shared_ptr<const Column>>& columns,
                                                 uint32_t rows, size_t threads,
                                                 std::chrono::steady_clock::time_point deadline);

}  // namespace belfry
