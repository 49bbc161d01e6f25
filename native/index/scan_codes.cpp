// The 8-bit scan: tasks over queries and rows, then rescoring of the survivors from the vectors.

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/aligned_buffer.hpp"
#include "core/thread_pool.hpp"
#include "index/candidate_lists.hpp"
#include "index/exact_batch.hpp"
#include "index/exact_index.hpp"
#include "index/query_codes.hpp"

namespace belfry {

namespace {

constexpr size_t kGroupMax = 256;                   // queries that pass over a tile of rows while it is in the L1 cache
constexpr size_t kGroupMin = 32;                    // fewer are not worth a second reading of the codes
constexpr size_t kSplitBytesMin = size_t{1} << 20;  // of codes; below this a second thread costs more than it brings
constexpr size_t kListBytesMax = size_t{64} << 20;  // of survivor lists in one task
constexpr size_t kScoredAtOnce = 64;

}  // namespace

void ExactIndex::scan_codes(Batch& batch) const {
  const SearchParams& params = batch.params;
  const bool bounds = params.mode == SearchMode::kExact;
  const uint32_t keep = bounds ? params.k : params.rescore;
  const CodeView items = item_codes_.view();
  const QueryCodes codes(batch.queries, batch.count, vectors_.dims, metric_, item_codes_.exponent(),
                         kernel_.query_window);
  const size_t group_max =
      std::clamp<size_t>(kListBytesMax / CandidateLists::bytes_per_query(keep, bounds), 1, kGroupMax);
  const size_t stride = items.rows.stride;
  const TaskGrid grid(batch.count, group_max, kGroupMin, item_codes_.padded_rows(),
                      static_cast<uint32_t>(kSplitBytesMin / stride), threads_);
  const auto kind = static_cast<size_t>(metric_ == Metric::kL2 ? (bounds ? ScanKind::kL2Bound : ScanKind::kL2)
                                                               : (bounds ? ScanKind::kPlainBound : ScanKind::kPlain));
  // The last tile may hold rows past the end, which a filter's zero bits keep out.
  const uint32_t whole_end = vectors_.rows / kTileRows * kTileRows;
  RowFilter last(kTileRows);
  for (uint32_t row = vectors_.rows - whole_end; row < kTileRows; ++row) last.drop(row);

  const RowFilter* filter = params.filter;
  std::shared_ptr<const RowFilter> internal_filter;
  if (filter != nullptr && !order_.identity()) {
    internal_filter = order_.internal(*filter);
    filter = internal_filter.get();
  }

  const auto scan = [&](CandidateLists& lists, size_t group, size_t split) {
    AlignedBuffer<uint8_t> tile(kTileRows * stride + kSlackBytes);
    const size_t first = group * grid.group;
    ScanJob job{};
    job.items = items;
    codes.fill(job, first, std::min(grid.group, batch.count - first));
    lists.fill(job);
    job.tile = tile.data();
    const uint32_t begin = static_cast<uint32_t>(split) * grid.split_rows;
    const uint32_t end = std::min(item_codes_.padded_rows(), begin + grid.split_rows);
    if (filter != nullptr) {
      job.row_begin = begin;
      job.row_end = end;
      job.allowed = filter->words() + begin / kTileRows;
      kernel_.scan[kind](job);
      return;
    }
    job.row_begin = begin;
    job.row_end = std::min(end, whole_end);
    if (job.row_begin < job.row_end) kernel_.scan[kind](job);
    if (end > whole_end) {
      job.row_begin = whole_end;
      job.row_end = end;
      job.allowed = last.words();
      kernel_.scan[kind](job);
    }
  };
  const auto make_lists = [&](size_t group) {
    const size_t first = group * grid.group;
    const size_t count = std::min(grid.group, batch.count - first);
    auto lists = bounds ? std::make_unique<CandidateLists>(order_, codes, items, first, count, keep)
                        : std::make_unique<CandidateLists>(order_, count, keep);
    if (params.exclusions != nullptr) lists->exclude(*params.exclusions, first);
    return lists;
  };

  std::vector<char> overflowed(batch.count, 0);
  // Merges the splits of one query and writes its hits.
  const auto finish = [&](size_t group, size_t q, const std::unique_ptr<CandidateLists>* parts) {
    std::vector<uint64_t> survivors;
    for (uint32_t split = 0; split < grid.splits; ++split) {
      if (parts[split]->overflowed(q)) overflowed[group * grid.group + q] = 1;
      parts[split]->collect(q, survivors);
    }
    if (overflowed[group * grid.group + q] == 0) rescore(batch, group * grid.group + q, survivors, codes);
  };

  ThreadPool& pool = ThreadPool::instance();
  if (grid.splits == 1) {
    pool.parallel_for(grid.groups, threads_, [&](size_t group) {
      const std::unique_ptr<CandidateLists> lists = make_lists(group);
      scan(*lists, group, 0);
      const size_t count = std::min(grid.group, batch.count - group * grid.group);
      for (size_t q = 0; q < count; ++q) finish(group, q, &lists);
    });
  } else {
    std::vector<std::unique_ptr<CandidateLists>> parts(grid.tasks());
    pool.parallel_for(grid.tasks(), threads_, [&](size_t task) {
      parts[task] = make_lists(task / grid.splits);
      scan(*parts[task], task / grid.splits, task % grid.splits);
    });
    pool.parallel_for(batch.count, threads_,
                      [&](size_t q) { finish(q / grid.group, q % grid.group, &parts[q / grid.group * grid.splits]); });
  }

  std::vector<size_t> again;
  for (size_t q = 0; q < batch.count; ++q) {
    if (overflowed[q] != 0) again.push_back(q);
  }
  if (!again.empty()) scan_rows(batch, again, nullptr);
}

// Queries whose walk or probes did not do are scanned together, and the answers take the place of theirs.
void ExactIndex::scan_failed(Batch& batch, const std::vector<char>& failed) const {
  std::vector<size_t> again;
  for (size_t q = 0; q < batch.count; ++q) {
    if (failed[q] != 0) again.push_back(q);
  }
  batch.hits.fallbacks = static_cast<uint32_t>(again.size());
  if (again.empty() || !batch.params.fall_back) return;
  SearchParams params = batch.params;
  params.mode = SearchMode::kCodes;
  std::optional<Exclusions> own;
  if (params.exclusions != nullptr) params.exclusions = &own.emplace(params.exclusions->only(again));
  std::vector<float> queries;
  queries.reserve(again.size() * vectors_.dims);
  for (size_t q : again) {
    const float* query = batch.queries + q * vectors_.dims;
    queries.insert(queries.end(), query, query + vectors_.dims);
  }
  const Hits hits = search(queries.data(), again.size(), params);
  for (size_t i = 0; i < again.size(); ++i) {
    const size_t from = i * params.k, to = again[i] * params.k;
    std::copy_n(hits.rows.data() + from, params.k, batch.hits.rows.data() + to);
    std::copy_n(hits.scores.data() + from, params.k, batch.hits.scores.data() + to);
    batch.hits.counts[again[i]] = hits.counts[i];
  }
  if (batch.count == 1) batch.hits.path = hits.path;
}

void ExactIndex::rescore(Batch& batch, size_t q, std::vector<uint64_t>& survivors, const QueryCodes& codes) const {
  const SearchParams& params = batch.params;
  const float* query = batch.queries + q * vectors_.dims;
  const double norm = query_norm(query);
  const bool bounds = params.mode == SearchMode::kExact;
  if (!bounds && survivors.size() > params.rescore) {
    std::nth_element(survivors.begin(), survivors.begin() + static_cast<std::ptrdiff_t>(params.rescore - 1),
                     survivors.end(), std::greater<>{});
    survivors.resize(params.rescore);
  }
  // By bound, so that scoring can stop early.
  if (bounds) std::sort(survivors.begin(), survivors.end(), std::greater<>{});

  TopHits top(params.k);
  uint32_t rows[kScoredAtOnce];
  double scores[kScoredAtOnce];
  for (size_t i = 0; i < survivors.size();) {
    if (bounds && i >= params.k) {
      top.cut();
      // All that follow have a bound no better than this one.
      if (packed_key(survivors[i]) < codes.key_below(q, top.threshold())) break;
    }
    const uint32_t count = static_cast<uint32_t>(std::min(kScoredAtOnce, survivors.size() - i));
    for (uint32_t j = 0; j < count; ++j) rows[j] = packed_row(survivors[i + j]);
    score_rows_unchecked(query, norm, rows, 0, count, scores);
    for (uint32_t j = 0; j < count; ++j) top.offer(scores[j], rows[j]);
    i += count;
  }
  write(batch, q, top);
}

}  // namespace belfry
