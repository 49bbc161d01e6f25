#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/row_filter.hpp"

namespace belfry {

// Where the rows of an index stand in memory. Callers only ever see external rows, those of the vectors; codes, and
// what is computed from them, are kept in internal rows. The default is the identity.
class RowOrder {
 public:
  RowOrder() = default;
  // Internal row i holds external row to_external[i]; empty: the identity. Throws BELFRY_INVALID_ARGUMENT when that is
  // not a permutation of 0 .. rows - 1.
  RowOrder(std::vector<uint32_t> to_external, uint32_t rows) : to_external_(std::move(to_external)) {
    if (to_external_.empty()) return;
    if (to_external_.size() != rows) {
      throw invalid_argument("order", std::to_string(rows) + " rows, as the vectors have",
                             std::to_string(to_external_.size()));
    }
    to_internal_.assign(rows, rows);
    for (uint32_t i = 0; i < rows; ++i) {
      const uint32_t external = to_external_[i];
      if (external >= rows || to_internal_[external] != rows) {
        throw invalid_argument("order", "every row below " + std::to_string(rows) + " once",
                               std::to_string(external) + " at position " + std::to_string(i));
      }
      to_internal_[external] = i;
    }
  }

  bool identity() const noexcept { return to_external_.empty(); }
  // Null for the identity.
  const uint32_t* to_external() const noexcept { return identity() ? nullptr : to_external_.data(); }
  uint32_t external(uint32_t internal) const noexcept { return identity() ? internal : to_external_[internal]; }
  uint32_t internal(uint32_t external) const noexcept { return identity() ? external : to_internal_[external]; }
  size_t bytes() const noexcept { return (to_external_.size() + to_internal_.size()) * sizeof(uint32_t); }

  // The same rows, by their internal numbers; kept with the filter.
  std::shared_ptr<const RowFilter> internal(const RowFilter& external) const {
    return external.renumbered(id_, [&] {
      const size_t rows = to_external_.size();
      std::vector<uint64_t> words((rows + 63) / 64);
      for (size_t i = 0; i < rows; ++i) words[i / 64] |= uint64_t{external.allows(to_external_[i])} << (i % 64);
      return RowFilter(rows, std::move(words));
    });
  }

 private:
  static uint64_t next_id() noexcept {
    static std::atomic<uint64_t> last{0};
    return ++last;
  }

  std::vector<uint32_t> to_external_, to_internal_;
  uint64_t id_ = next_id();
};

}  // namespace belfry
