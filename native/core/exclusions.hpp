#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/row_filter.hpp"

namespace belfry {

// Rows that one query must not return: sorted and unique in each of the two spans, and those outside of `visible`.
struct ExcludedRows {
  std::span<const uint32_t> common, own;
  const RowFilter* visible = nullptr;  // null: all rows

  bool empty() const noexcept { return common.empty() && own.empty() && visible == nullptr; }
  // An upper bound: a row may stand in several.
  size_t count() const noexcept {
    return common.size() + own.size() + (visible == nullptr ? 0 : visible->rows() - visible->count());
  }
  bool contains(uint32_t row) const noexcept {
    return (visible != nullptr && !visible->allows(row)) || std::binary_search(own.begin(), own.end(), row) ||
           std::binary_search(common.begin(), common.end(), row);
  }
};

// Rows that a search must not return: some for all of its queries, some for single ones. Immutable after construction,
// so that threads share it. Lists that are not sorted are sorted here: long ones off the JS thread.
class Exclusions {
 public:
  Exclusions() = default;
  // `common` holds for every query, rows[offsets[q]] .. rows[offsets[q + 1]] for query q; in any order, duplicates
  // allowed. `offsets` may be empty (no query has a list of its own), else it holds queries + 1 entries. Rows outside
  // of `visible` (null: none) are excluded for every query: a bit each, so that a hundred thousand cost a search
  // nothing. Throws BELFRY_INVALID_ARGUMENT.
  Exclusions(std::vector<uint32_t> common, const std::vector<uint32_t>& offsets, std::vector<uint32_t> rows,
             size_t queries, uint32_t row_limit, std::shared_ptr<const RowFilter> visible = nullptr)
      : common_(std::move(common)), rows_(std::move(rows)), visible_(std::move(visible)) {
    check_rows("exclude", common_, row_limit);
    sort_unique(common_);
    check_offsets(offsets, queries);
    check_rows("excludeEach.rows", rows_, row_limit);
    if (rows_.empty()) return;
    lists_.reserve(queries);
    for (size_t q = 0; q < queries; ++q) {
      const auto first = rows_.begin() + offsets[q], last = rows_.begin() + offsets[q + 1];
      if (!std::is_sorted(first, last)) std::sort(first, last);
      lists_.emplace_back(rows_.data() + offsets[q], static_cast<size_t>(std::unique(first, last) - first));
    }
  }
  Exclusions(const Exclusions&) = delete;  // the lists point into rows_, which a move takes along
  Exclusions& operator=(const Exclusions&) = delete;
  Exclusions(Exclusions&&) noexcept = default;

  // Those of some queries, for a search of these alone.
  Exclusions only(const std::vector<size_t>& queries) const {
    Exclusions some;
    some.common_ = common_;
    some.visible_ = visible_;
    if (lists_.empty()) return some;
    size_t total = 0;
    for (size_t q : queries) total += lists_[q].size();
    some.rows_.reserve(total);  // so that the lists stay where they are
    for (size_t q : queries) {
      const uint32_t* const at = some.rows_.data() + some.rows_.size();
      some.rows_.insert(some.rows_.end(), lists_[q].begin(), lists_[q].end());
      some.lists_.emplace_back(at, lists_[q].size());
    }
    return some;
  }

  bool empty() const noexcept { return common_.empty() && lists_.empty() && visible_ == nullptr; }
  ExcludedRows of(size_t q) const noexcept {
    return {common_, lists_.empty() ? std::span<const uint32_t>() : lists_[q], visible_.get()};
  }

 private:
  static void sort_unique(std::vector<uint32_t>& rows) {
    if (!std::is_sorted(rows.begin(), rows.end())) std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  }
  static void check_rows(const char* field, const std::vector<uint32_t>& rows, uint32_t limit) {
    for (uint32_t row : rows) {
      if (row >= limit)
        throw invalid_argument(field, "row numbers below " + std::to_string(limit), std::to_string(row));
    }
  }
  void check_offsets(const std::vector<uint32_t>& offsets, size_t queries) const {
    if (offsets.empty() && rows_.empty()) return;
    const std::string field = "excludeEach.offsets";
    if (offsets.size() != queries + 1) {
      throw invalid_argument(field, std::to_string(queries + 1) + " numbers (one more than queries)",
                             std::to_string(offsets.size()));
    }
    for (size_t q = 0; q < queries; ++q) {
      if (offsets[q] > offsets[q + 1]) {
        throw invalid_argument(field, "numbers that never fall",
                               std::to_string(offsets[q + 1]) + " after " + std::to_string(offsets[q]));
      }
    }
    if (offsets.front() != 0 || offsets.back() != rows_.size()) {
      throw invalid_argument(field, "0 first and " + std::to_string(rows_.size()) + " (the length of rows) last",
                             std::to_string(offsets.front()) + " and " + std::to_string(offsets.back()));
    }
  }

  std::vector<uint32_t> common_, rows_;
  std::vector<std::span<const uint32_t>> lists_;
  std::shared_ptr<const RowFilter> visible_;
};

}  // namespace belfry
