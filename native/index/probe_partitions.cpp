// Scans of some partitions of the graph: those whose means score best, chosen for each query. A group of queries passes
// over a partition together, so that its rows are read and interleaved once for all that want it.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "core/aligned_buffer.hpp"
#include "core/thread_pool.hpp"
#include "index/candidate_lists.hpp"
#include "index/exact_batch.hpp"
#include "index/exact_index.hpp"
#include "index/query_codes.hpp"

namespace belfry {

namespace {

constexpr size_t kGroupMax = 4096;                  // queries that share the reading of partitions
constexpr size_t kGroupMin = 4;                     // fewer are not worth a second thread
constexpr size_t kScanQueries = 256;                // that pass over a tile of rows while it is in the L1 cache
constexpr size_t kListBytesMax = size_t{64} << 20;  // of survivor lists in one task
constexpr size_t kVisitsMax = size_t{4} << 20;      // of partitions in one task

}  // namespace

// What all groups of a batch share.
struct ExactIndex::ProbePlan {
  const QueryCodes& codes;
  const RowFilter* allowed;       // internal rows; null: all of them
  RowFilter partitions;           // that hold allowed rows
  size_t scan;                    // of KernelTable
  RowOrder partition_order = {};  // as numbered
};

// One task: the queries first .. first + count - 1 of a batch.
class ExactIndex::ProbeGroup {
 public:
  ProbeGroup(const ExactIndex& index, const Batch& batch, const ProbePlan& plan, size_t first, size_t count)
      : index_(index),
        params_(batch.params),
        plan_(plan),
        starts_(index.graph_->graph().partition_starts),
        first_(first),
        count_(count),
        lists_(index.order_, count, batch.params.rescore) {
    if (params_.exclusions != nullptr) lists_.exclude(*params_.exclusions, first);
  }

  CandidateLists& lists() noexcept { return lists_; }

  // Returns the rows passed over, summed over the queries.
  uint64_t run() {
    const std::vector<Visit> visits = choose();
    // The best partition of every query comes first: its rows raise the thresholds that the others have to pass.
    const uint32_t partitions = index_.graph_->partitions();
    std::vector<uint32_t> starts(2 * size_t{partitions} + 1), queries(visits.size());
    for (const Visit& visit : visits) ++starts[visit.place + 1];
    for (size_t place = 0; place < 2 * size_t{partitions}; ++place) starts[place + 1] += starts[place];
    std::vector<uint32_t> at(starts.begin(), starts.end() - 1);
    for (const Visit& visit : visits) queries[at[visit.place]++] = visit.query;

    uint64_t scored = 0;
    const size_t stride = index_.item_codes_.view().rows.stride;
    AlignedBuffer<int8_t> codes(std::min(count_ + kScanQueries, kScanQueries) * stride + kSlackBytes);
    AlignedBuffer<uint8_t> tile(kTileRows * stride + kSlackBytes);
    for (size_t place = 0; place < 2 * size_t{partitions}; ++place) {
      const uint32_t p = static_cast<uint32_t>(place % partitions);
      for (uint32_t i = starts[place]; i < starts[place + 1]; i += kScanQueries) {
        const size_t count = std::min<size_t>(kScanQueries, starts[place + 1] - i);
        scan(p, queries.data() + i, count, codes.data(), tile.data());
        scored += count * (starts_[p + 1] - starts_[p]);
      }
    }
    return scored;
  }

 private:
  // A query of the group and a place in the order of scanning: partition p first for some, partition p later for
  // others.
  struct Visit {
    uint32_t place, query;
  };

  // The partitions of each query, by a scan of the means.
  std::vector<Visit> choose() {
    const uint32_t partitions = index_.graph_->partitions();
    const size_t probes = params_.probes;
    ScanJob job{};
    job.items = index_.partition_means_.view();
    job.row_end = index_.partition_means_.padded_rows();
    job.allowed = plan_.partitions.words();
    AlignedBuffer<uint8_t> tile(kTileRows * job.items.rows.stride + kSlackBytes);
    job.tile = tile.data();
    std::vector<Visit> visits;
    visits.reserve(count_ * probes);
    std::vector<uint64_t> best;
    for (size_t begin = 0; begin < count_; begin += kScanQueries) {
      const size_t count = std::min(kScanQueries, count_ - begin);
      CandidateLists lists(plan_.partition_order, count, params_.probes);
      plan_.codes.fill(job, first_ + begin, count);
      lists.fill(job);
      index_.kernel_.scan[plan_.scan](job);
      for (size_t q = 0; q < count; ++q) {
        best.clear();
        lists.collect(q, best);
        if (best.size() > probes) {
          std::nth_element(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(probes - 1), best.end(),
                           std::greater<>{});
          best.resize(probes);
        }
        const uint64_t first = *std::max_element(best.begin(), best.end());
        for (uint64_t p : best) {
          visits.push_back({packed_row(p) + (p == first ? 0 : partitions), static_cast<uint32_t>(begin + q)});
        }
      }
    }
    return visits;
  }

  // Compares `count` queries of the group with the rows of partition p.
  void scan(uint32_t p, const uint32_t* queries, size_t count, int8_t* codes, uint8_t* tile) {
    ScanJob all{};
    plan_.codes.fill(all, first_, count_);
    lists_.fill(all);
    int32_t offsets[kScanQueries];
    float l2_scale[kScanQueries], l2_weight[kScanQueries], thresholds[kScanQueries];
    Candidates lists[kScanQueries];
    ScanJob job{};
    job.items = index_.item_codes_.view();
    const size_t stride = job.items.rows.stride;
    for (size_t i = 0; i < count; ++i) {
      const uint32_t q = queries[i];
      std::memcpy(codes + i * stride, all.query_codes + q * stride, stride);
      offsets[i] = all.offsets[q];
      l2_scale[i] = all.l2_scale[q];
      l2_weight[i] = all.l2_weight[q];
      thresholds[i] = all.thresholds[q];
      lists[i] = all.lists[q];
    }
    job.row_begin = starts_[p] / kTileRows * kTileRows;
    job.row_end = (starts_[p + 1] + kTileRows - 1) / kTileRows * kTileRows;
    mask(p);
    job.allowed = mask_.data();
    job.count = static_cast<uint32_t>(count);
    job.query_codes = codes;
    job.offsets = offsets;
    job.l2_scale = l2_scale;
    job.l2_weight = l2_weight;
    job.thresholds = thresholds;
    job.lists = lists;
    job.tile = tile;
    index_.kernel_.scan[plan_.scan](job);
    for (size_t i = 0; i < count; ++i) {
      all.thresholds[queries[i]] = thresholds[i];
      all.lists[queries[i]] = lists[i];
    }
  }

  // The allowed rows of a partition, from the tile on in which it begins.
  void mask(uint32_t p) {
    const uint32_t begin = starts_[p], end = starts_[p + 1];
    const size_t first = begin / kTileRows, last = (end - 1) / kTileRows;
    mask_.assign(last - first + 1, ~uint64_t{0});
    if (plan_.allowed != nullptr) std::copy_n(plan_.allowed->words() + first, mask_.size(), mask_.begin());
    mask_.front() &= ~uint64_t{0} << (begin % kTileRows);
    mask_.back() &= ~uint64_t{0} >> (kTileRows - 1 - (end - 1) % kTileRows);
  }

  const ExactIndex& index_;
  const SearchParams& params_;
  const ProbePlan& plan_;
  const std::vector<uint32_t>& starts_;
  size_t first_, count_;
  CandidateLists lists_;
  std::vector<uint64_t> mask_;
};

void ExactIndex::probe(Batch& batch) const {
  const SearchParams& params = batch.params;
  const QueryCodes codes(batch.queries, batch.count, vectors_.dims, metric_, item_codes_.exponent(),
                         kernel_.query_window);
  const RowFilter* allowed = params.filter;
  std::shared_ptr<const RowFilter> internal;
  if (allowed != nullptr) {
    internal = order_.internal(*allowed);
    allowed = internal.get();
  }
  ProbePlan plan{codes, allowed, RowFilter(graph_->partitions()),
                 static_cast<size_t>(metric_ == Metric::kL2 ? ScanKind::kL2 : ScanKind::kPlain)};
  if (allowed != nullptr) {
    const std::vector<uint32_t>& starts = graph_->graph().partition_starts;
    for (uint32_t p = 0; p < graph_->partitions(); ++p) {
      uint32_t row = starts[p];
      while (row < starts[p + 1] && !allowed->allows(row)) ++row;
      if (row == starts[p + 1]) plan.partitions.drop(p);
    }
  }
  const size_t there = allowed == nullptr ? vectors_.rows : allowed->count();
  const size_t lists_max = kListBytesMax / CandidateLists::bytes_per_query(params.rescore, false);
  const size_t group_max = std::clamp<size_t>(std::min(lists_max, kVisitsMax / params.probes), 1, kGroupMax);
  const TaskGrid grid(batch.count, group_max, kGroupMin, 0, 1, threads_);

  batch.hits.path = SearchPath::kProbe;
  std::vector<char> failed(batch.count, 0);
  std::atomic<uint64_t> scored{0};
  ThreadPool::instance().parallel_for(grid.groups, threads_, [&](size_t g) {
    const size_t first = g * grid.group, count = std::min(grid.group, batch.count - first);
    ProbeGroup group(*this, batch, plan, first, count);
    scored += group.run();
    std::vector<uint64_t> survivors;
    for (size_t q = 0; q < count; ++q) {
      survivors.clear();
      group.lists().collect(q, survivors);
      if (survivors.size() < std::min<size_t>(params.k, there)) {
        failed[first + q] = 1;
      } else {
        rescore(batch, first + q, survivors, codes);
      }
    }
  });
  batch.hits.scored = scored;
  scan_failed(batch, failed);
}

}  // namespace belfry
