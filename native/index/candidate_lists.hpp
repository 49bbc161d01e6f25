#pragma once

#include <cstdint>
#include <vector>

#include "core/exclusions.hpp"
#include "index/query_codes.hpp"
#include "index/row_order.hpp"
#include "kernels/kernels.hpp"

namespace belfry {

// One survivor as one number: larger is better, equal keys by smaller row. Sorting these is a total order.
inline uint64_t pack_candidate(float key, uint32_t row) noexcept {
  uint32_t bits;
  __builtin_memcpy(&bits, &key, sizeof bits);
  bits = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;  // order of floats -> order of unsigned numbers
  return uint64_t{bits} << 32 | static_cast<uint32_t>(~row);
}
inline uint32_t packed_row(uint64_t packed) noexcept { return ~static_cast<uint32_t>(packed); }
inline float packed_key(uint64_t packed) noexcept {
  uint32_t bits = static_cast<uint32_t>(packed >> 32);
  bits = (bits & 0x80000000U) != 0 ? bits & 0x7fffffffU : ~bits;
  float key;
  __builtin_memcpy(&key, &bits, sizeof key);
  return key;
}

// The survivor lists of one scan task. Two disciplines:
//   best:   the `keep` best keys and up to half as many more; a full list is cut back to them
//   bounds: every row whose upper bound reaches the k-th best lower bound; may outgrow its limit, and then says so
class CandidateLists {
 public:
  // `order` must outlive the lists. They hold internal rows, and decide ties by external ones. The heads that `fill`
  // hands out may be copied, scanned with, and copied back.
  CandidateLists(const RowOrder& order, size_t queries, uint32_t keep);
  CandidateLists(const RowOrder& order, const QueryCodes& codes, const CodeView& items, size_t first, size_t queries,
                 uint32_t k);
  CandidateLists(const CandidateLists&) = delete;
  CandidateLists& operator=(const CandidateLists&) = delete;

  // The lists are those of queries first, first + 1, ... of `exclusions`. Before the first row arrives.
  void exclude(const Exclusions& exclusions, size_t first);

  // Bytes that one query's list may come to hold.
  static size_t bytes_per_query(uint32_t keep, bool bounds) noexcept;

  void fill(ScanJob& job) noexcept {
    job.lists = heads_.data();
    job.thresholds = thresholds_.data();
  }
  // The bound discipline gave up on this query: too many rows are within the bound.
  bool overflowed(size_t q) const noexcept { return lists_[q].overflowed; }
  // Appends the survivors of query q, packed with their external rows; of the best discipline, about `keep` of them.
  void collect(size_t q, std::vector<uint64_t>& out);

 private:
  struct List {
    CandidateLists* owner = nullptr;
    std::vector<float> keys;
    std::vector<uint32_t> rows;
    std::vector<uint64_t> packed;  // scratch of prune
    double error_weight = 0, norm_weight = 0, margin = 0;
    ExcludedRows excluded;
    bool overflowed = false;
  };

  static void reserve(Candidates& head, uint32_t capacity);
  void drop_excluded(Candidates& head) const noexcept;
  void collect(const Candidates& head, std::vector<uint64_t>& out) const;
  float admits_from(float key) const noexcept;
  float cut_to_best(Candidates& head) const;
  float cut_to_bounds(Candidates& head) const;
  double lower_bound(const Candidates& head, size_t entry) const noexcept;

  const RowOrder& order_;
  uint32_t keep_;
  uint32_t limit_ = 0;
  CodeView items_{};
  std::vector<float> thresholds_;
  std::vector<Candidates> heads_;
  std::vector<List> lists_;
};

}  // namespace belfry
