#include "index/exact_index.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <string>
#include <utility>

#include "core/error.hpp"
#include "index/exact_batch.hpp"
#include "index/partition_means.hpp"

namespace belfry {

namespace {

// Scoring one row from its vector costs about this many times as much as passing over it in a scan of codes; for a
// batch the scan is shared, so it is dearer still. Measured: docs/decisions/0002-exact-search-kernels.md.
constexpr size_t kGatherCostSingle = 16;
constexpr size_t kGatherCostBatch = 48;
constexpr size_t kBatchQueries = 8;
constexpr size_t kGatherAlways = 256;

// Whether the best `rescore` rows by code are scored from the vectors, and no proof is asked for.
bool approximate(SearchMode mode) {
  return mode == SearchMode::kCodes || mode == SearchMode::kProbe || mode == SearchMode::kWalk;
}

RowScore row_score_of(Metric metric) {
  switch (metric) {
    case Metric::kIp: return RowScore::kIp;
    case Metric::kCosine: return RowScore::kCosine;
    case Metric::kL2: return RowScore::kL2;
  }
  return RowScore::kIp;
}

}  // namespace

ExactIndex::ExactIndex(VectorSource vectors, Metric metric, const KernelTable& kernel, size_t threads,
                       std::vector<uint32_t> order)
    : vectors_(std::move(vectors)),
      metric_(metric),
      kernel_(kernel),
      threads_(threads),
      order_(std::move(order), vectors_.rows),
      item_codes_(vectors_, metric, kernel, threads, order_.to_external()) {
  const float* norms = item_codes_.view().norm;
  for (uint32_t row = 0; row < vectors_.rows; ++row) largest_norm_ = std::max(largest_norm_, norms[row]);
}

ExactIndex::ExactIndex(VectorSource vectors, Metric metric, const KernelTable& kernel, size_t threads,
                       std::optional<Graph> graph)
    : ExactIndex(std::move(vectors), metric, kernel, threads,
                 graph ? std::move(graph->order) : std::vector<uint32_t>()) {
  if (!graph) return;
  partition_means_ = partition_means(graph->partition_starts, item_codes_.view(), metric, kernel, threads);
  graph_.emplace(std::move(*graph), item_codes_.view().rows);
}

void ExactIndex::check(const float* queries, size_t count, const SearchParams& params) const {
  if (params.k < 1 || params.k > kKMax) {
    throw invalid_argument("k", "an integer from 1 to " + std::to_string(kKMax), std::to_string(params.k));
  }
  if ((params.mode == SearchMode::kProbe || params.mode == SearchMode::kWalk) && !graph_) {
    throw invalid_argument("mode", "\"codes\", \"exact\" or \"f32\" for an index without a graph",
                           params.mode == SearchMode::kProbe ? "\"probe\"" : "\"walk\"");
  }
  if (params.mode == SearchMode::kProbe && (params.probes < 1 || params.probes > graph_->partitions())) {
    throw invalid_argument("probes", "an integer from 1 to " + std::to_string(graph_->partitions()),
                           std::to_string(params.probes));
  }
  if (approximate(params.mode) && params.rescore < params.k) {
    throw invalid_argument("rescore", "an integer of at least k (" + std::to_string(params.k) + ")",
                           std::to_string(params.rescore));
  }
  for (size_t i = 0; i < count * vectors_.dims; ++i) {
    if (!std::isfinite(queries[i])) {
      throw Error(codes::kInvalidQueryVector,
                  "queries: expected finite numbers, received " +
                      std::string(std::isnan(queries[i]) ? "NaN" : "Infinity") + " in query " +
                      std::to_string(i / vectors_.dims) + ", dim " + std::to_string(i % vectors_.dims),
                  "queries");
    }
  }
}

Hits ExactIndex::search(const float* queries, size_t count, const SearchParams& params) const {
  check(queries, count, params);
  Batch batch{queries, count, params, {}};
  batch.hits.rows.resize(count * params.k);
  batch.hits.scores.resize(count * params.k);
  batch.hits.counts.resize(count);
  const size_t allowed = params.filter == nullptr ? vectors_.rows : params.filter->count();
  if (allowed == 0 || count == 0) return std::move(batch.hits);

  if (params.mode == SearchMode::kWalk && params.rescore < allowed) {
    walk(batch);
    return std::move(batch.hits);
  }
  std::vector<size_t> all(count);
  for (size_t q = 0; q < count; ++q) all[q] = q;
  const size_t gather_cost = count < kBatchQueries ? kGatherCostSingle : kGatherCostBatch;
  const size_t scored = approximate(params.mode) ? params.rescore : params.k;
  if (params.filter != nullptr && (allowed <= kGatherAlways || allowed * gather_cost <= vectors_.rows)) {
    const std::vector<uint32_t> rows = params.filter->to_rows();
    batch.hits.path = SearchPath::kList;
    scan_rows(batch, all, &rows);
  } else if (params.mode == SearchMode::kF32 || scored * 2 >= allowed) {
    scan_rows(batch, all, nullptr);
  } else if (params.mode == SearchMode::kProbe) {
    probe(batch);
  } else {
    scan_codes(batch);
  }
  return std::move(batch.hits);
}

double ExactIndex::query_norm(const float* query) const {
  if (metric_ != Metric::kCosine) return 0;
  double squares = 0;
  for (uint32_t i = 0; i < vectors_.dims; ++i) squares += double{query[i]} * double{query[i]};
  return std::sqrt(squares);
}

void ExactIndex::score_rows_unchecked(const float* query, double query_norm, const uint32_t* rows, uint32_t first,
                                      uint32_t count, double* out) const {
  const ScoreJob job{vectors_.base,
                     vectors_.row_bytes,
                     vectors_.format,
                     row_score_of(metric_),
                     vectors_.dims,
                     query,
                     query_norm,
                     rows,
                     first,
                     count,
                     out};
  kernel_.score_rows(job);
}

std::vector<float> ExactIndex::score(const float* query, std::span<const uint32_t> rows) const {
  SearchParams params;
  params.k = 1;
  check(query, 1, params);
  for (uint32_t row : rows) {
    if (row >= vectors_.rows) {
      throw invalid_argument("rows", "row numbers below " + std::to_string(vectors_.rows), std::to_string(row));
    }
  }
  std::vector<double> exact(rows.size());
  score_rows_unchecked(query, query_norm(query), rows.data(), 0, static_cast<uint32_t>(rows.size()), exact.data());
  std::vector<float> scores(rows.size());
  std::transform(exact.begin(), exact.end(), scores.begin(), to_f32);
  return scores;
}

void ExactIndex::write(Batch& batch, size_t q, TopHits& top) const {
  const std::vector<Hit>& best = top.finish();
  const size_t at = q * batch.params.k;
  for (size_t i = 0; i < best.size(); ++i) {
    batch.hits.rows[at + i] = best[i].row;
    batch.hits.scores[at + i] = to_f32(best[i].score);
  }
  batch.hits.counts[q] = static_cast<uint32_t>(best.size());
}

}  // namespace belfry
