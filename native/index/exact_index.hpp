#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/metric.hpp"
#include "core/top_hits.hpp"
#include "index/item_codes.hpp"
#include "index/row_order.hpp"
#include "index/search_types.hpp"
#include "index/vector_source.hpp"
#include "index/walk_graph.hpp"
#include "kernels/kernels.hpp"

namespace belfry {

class QueryCodes;

// Search over 8-bit codes: exact scans, scans of the vectors themselves, and, when a graph was given, walks over it and
// scans of some of its partitions.
// Immutable after construction, so any number of threads
// may search it. Answers do not depend on the number of threads or on the kernel level:
//   scores are f64 sums in a fixed order, rounded to f32 at the end; order is by the f64 score, then by smaller row.
class ExactIndex {
 public:
  // Makes the codes: reads every row twice. Throws BELFRY_BAD_VECTOR when one is not finite. With an `order`, internal
  // row i holds row order[i] of the vectors; answers are those of the identity, bit for bit. Throws
  // BELFRY_INVALID_ARGUMENT when it is not a permutation.
  ExactIndex(VectorSource vectors, Metric metric, const KernelTable& kernel, size_t threads,
             std::vector<uint32_t> order = {});
  // In the order of the graph, which must be one of these vectors (read_graph checks that); none: as above.
  ExactIndex(VectorSource vectors, Metric metric, const KernelTable& kernel, size_t threads,
             std::optional<Graph> graph);

  // Threads that a search may use, where they are not those that made the codes. Before the first search.
  void search_on(size_t threads) noexcept { threads_ = threads; }

  // Checked door: throws BELFRY_INVALID_ARGUMENT or BELFRY_INVALID_QUERY_VECTOR.
  Hits search(const float* queries, size_t count, const SearchParams& params) const;
  // Scores of given rows for one query, in the order of `rows`.
  std::vector<float> score(const float* query, std::span<const uint32_t> rows) const;

  uint32_t rows() const noexcept { return vectors_.rows; }
  uint32_t dims() const noexcept { return vectors_.dims; }
  Metric metric() const noexcept { return metric_; }
  const char* kernel_name() const noexcept { return kernel_.name; }
  size_t threads() const noexcept { return threads_; }
  size_t code_bytes() const noexcept { return item_codes_.bytes(); }
  // Null without a graph.
  const WalkGraph* graph() const noexcept { return graph_ ? &*graph_ : nullptr; }
  // The codes in internal rows, and what those are called outside.
  const ItemCodes& item_codes() const noexcept { return item_codes_; }
  const RowOrder& row_order() const noexcept { return order_; }

 private:
  struct Batch;
  struct ProbePlan;
  class ProbeGroup;
  struct WalkPlan;
  struct WalkWork;

  void check(const float* queries, size_t count, const SearchParams& params) const;
  void scan_codes(Batch& batch) const;
  void rescore(Batch& batch, size_t q, std::vector<uint64_t>& survivors, const QueryCodes& codes) const;
  // Scores all allowed rows, or `rows` when it is not null, for the given queries.
  void scan_rows(Batch& batch, const std::vector<size_t>& queries, const std::vector<uint32_t>* rows) const;
  void probe(Batch& batch) const;
  void walk(Batch& batch) const;
  size_t collect(const WalkJob& job, const WalkPlan& plan, const ExcludedRows& excluded, size_t wanted,
                 std::vector<uint32_t>& rows) const;
  WalkPlan plan_walk(const RowFilter* allowed) const;
  std::vector<uint32_t> probed_rows(size_t q, const QueryCodes& codes, const RowFilter& allowed, size_t wanted) const;
  // False when a scan must answer: the walk gave up, or found fewer rows than there are.
  bool walk_one(Batch& batch, size_t q, const QueryCodes& codes, const WalkPlan& plan, WalkWork& work) const;
  void scan_failed(Batch& batch, const std::vector<char>& failed) const;
  void score_rows_unchecked(const float* query, double query_norm, const uint32_t* rows, uint32_t first, uint32_t count,
                            double* out) const;
  double query_norm(const float* query) const;
  void write(Batch& batch, size_t q, TopHits& top) const;

  VectorSource vectors_;
  Metric metric_;
  const KernelTable& kernel_;
  size_t threads_;
  RowOrder order_;
  ItemCodes item_codes_;
  float largest_norm_ = 0;  // of all rows, in the units of ItemCodes
  std::optional<WalkGraph> graph_;
  ItemCodes partition_means_;
};

}  // namespace belfry
