// The scan of the vectors themselves: all rows, or a list of them.

#include <algorithm>
#include <vector>

#include "core/thread_pool.hpp"
#include "index/exact_batch.hpp"
#include "index/exact_index.hpp"

namespace belfry {

namespace {

constexpr uint32_t kChunkRows = 128;      // scored for one query at a time, while the rows are in cache
constexpr uint32_t kSplitRowsMin = 2048;  // rows of one task at the least
constexpr size_t kGroupMax = 64;          // queries that pass over a chunk
constexpr size_t kHitBytesMax = size_t{32} << 20;

}  // namespace

void ExactIndex::scan_rows(Batch& batch, const std::vector<size_t>& queries, const std::vector<uint32_t>* list) const {
  const uint32_t k = batch.params.k;
  const RowFilter* filter = list == nullptr ? batch.params.filter : nullptr;  // a list is already filtered
  const Exclusions* exclusions = batch.params.exclusions;
  const uint32_t total = list == nullptr ? vectors_.rows : static_cast<uint32_t>(list->size());
  const size_t group_max = std::clamp<size_t>(kHitBytesMax / ((2 * size_t{k} + 64) * sizeof(Hit)), 1, kGroupMax);
  const TaskGrid grid(queries.size(), group_max, 4, total, kSplitRowsMin, threads_);

  std::vector<double> norms(queries.size());
  for (size_t i = 0; i < queries.size(); ++i) norms[i] = query_norm(batch.queries + queries[i] * vectors_.dims);

  const auto scan = [&](std::vector<TopHits>& tops, size_t group, size_t split) {
    double scores[kChunkRows];
    const uint32_t begin = static_cast<uint32_t>(split) * grid.split_rows;
    const uint32_t end = std::min(total, begin + grid.split_rows);
    for (uint32_t first = begin; first < end; first += kChunkRows) {
      const uint32_t count = std::min(kChunkRows, end - first);
      for (size_t i = 0; i < tops.size(); ++i) {
        const size_t at = group * grid.group + i;
        const float* query = batch.queries + queries[at] * vectors_.dims;
        const uint32_t* rows = list == nullptr ? nullptr : list->data() + first;
        const ExcludedRows excluded = exclusions == nullptr ? ExcludedRows{} : exclusions->of(queries[at]);
        score_rows_unchecked(query, norms[at], rows, first, count, scores);
        for (uint32_t j = 0; j < count; ++j) {
          const uint32_t row = rows == nullptr ? first + j : rows[j];
          if (scores[j] < tops[i].threshold() || (filter != nullptr && !filter->allows(row))) continue;
          if (!excluded.contains(row)) tops[i].offer(scores[j], row);
        }
      }
    }
  };
  const auto group_count = [&](size_t group) { return std::min(grid.group, queries.size() - group * grid.group); };

  ThreadPool& pool = ThreadPool::instance();
  // Groups one after the other when rows are split, so that memory stays bounded by one group's lists.
  if (grid.splits == 1) {
    pool.parallel_for(grid.groups, threads_, [&](size_t group) {
      std::vector<TopHits> tops(group_count(group), TopHits(k));
      scan(tops, group, 0);
      for (size_t i = 0; i < tops.size(); ++i) write(batch, queries[group * grid.group + i], tops[i]);
    });
    return;
  }
  for (size_t group = 0; group < grid.groups; ++group) {
    std::vector<std::vector<TopHits>> parts(grid.splits, std::vector<TopHits>(group_count(group), TopHits(k)));
    pool.parallel_for(grid.splits, threads_, [&](size_t split) { scan(parts[split], group, split); });
    for (size_t i = 0; i < parts[0].size(); ++i) {
      for (uint32_t split = 1; split < grid.splits; ++split) parts[0][i].absorb(parts[split][i]);
      write(batch, queries[group * grid.group + i], parts[0][i]);
    }
  }
}

}  // namespace belfry
