// Search by walking the graph: one query at a time, in parallel over the queries of a batch.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/thread_pool.hpp"
#include "index/exact_batch.hpp"
#include "index/exact_index.hpp"
#include "index/query_codes.hpp"
#include "index/walk_graph.hpp"
#include "kernels/walk_job.hpp"

namespace belfry {

namespace {

// A walk that has scored this share of all rows has cost as much as a scan of them, which is exact.
constexpr uint64_t kScoredShare = 5;
constexpr uint64_t kScoredFloor = 4096;
// So few allowed rows are scored one after the other: about what a walk scores. Measured: docs/decisions/0003.
constexpr size_t kListRowsMax = 8192;
// With fewer of the rows allowed than this, stepping across the others costs more than scoring the allowed rows of the
// partitions that suit the query: so many for each row of the pool. Measured: docs/decisions/0003.
constexpr double kProbedShare = 0.15;
constexpr size_t kProbedPerPool = 32;
// With more of the rows allowed than this, failing rows are cheaper to walk over than to hop across.
constexpr double kPlainShare = 0.75;
constexpr size_t kSeeds = 128;  // allowed rows that a filtered walk starts from besides the best entries
constexpr uint32_t kHopsMax = 24;
constexpr size_t kSurplus = 64;     // room in the pool for excluded rows, at first
constexpr size_t kBestEntries = 2;  // enter the pool whether a filter allows them or not
constexpr uint32_t kQueriesPerTask = 8;

// Allowed rows, evenly spread over the index, whose order groups near rows: a stratified sample.
std::vector<uint32_t> spread(const RowFilter& filter, size_t wanted) {
  std::vector<uint32_t> rows;
  const size_t words = (filter.rows() + 63) / 64;
  for (size_t i = 0; i < wanted; ++i) {
    const size_t end = (i + 1) * words / wanted;
    for (size_t w = i * words / wanted; w < end; ++w) {
      if (filter.words()[w] == 0) continue;
      rows.push_back(static_cast<uint32_t>(w * 64 + static_cast<size_t>(__builtin_ctzll(filter.words()[w]))));
      break;
    }
  }
  return rows;
}

}  // namespace

struct ExactIndex::WalkPlan {
  SearchPath path = SearchPath::kWalk;
  const RowFilter* allowed = nullptr;  // internal rows
  std::vector<uint32_t> seeds;
  uint32_t hops = 0;
  bool expand = true;
};

struct ExactIndex::WalkWork {
  uint64_t scored = 0, expanded = 0;
};

ExactIndex::WalkPlan ExactIndex::plan_walk(const RowFilter* allowed) const {
  WalkPlan plan;
  plan.allowed = allowed;
  if (allowed == nullptr) return plan;
  if (allowed->count() <= kListRowsMax) {
    plan.path = SearchPath::kList;
    plan.seeds = allowed->to_rows();
    plan.expand = false;
    return plan;
  }
  const double share = static_cast<double>(allowed->count()) / static_cast<double>(vectors_.rows);
  if (share > kPlainShare) return plan;
  if (share <= kProbedShare) {
    plan.path = SearchPath::kFilteredProbe;
    plan.expand = false;
    return plan;
  }
  plan.path = SearchPath::kFilteredWalk;
  plan.seeds = spread(*allowed, kSeeds);
  plan.hops = std::min(kHopsMax, static_cast<uint32_t>(std::ceil(1 / share)) + 1);
  return plan;
}

// Allowed rows, `wanted` or a few more, of the partitions whose means score best for query q.
std::vector<uint32_t> ExactIndex::probed_rows(size_t q, const QueryCodes& codes, const RowFilter& allowed,
                                              size_t wanted) const {
  const uint32_t partitions = graph_->partitions();
  std::vector<uint32_t> means((partitions + kWalkLanes - 1) / kWalkLanes * kWalkLanes, partitions - 1);
  std::iota(means.begin(), means.begin() + partitions, 0U);
  WalkJob ranking{};
  graph_->fill(ranking);
  ranking.entry_count = 0;
  ranking.items = partition_means_.view().rows;
  codes.fill(ranking, q);
  ranking.seeds = means.data();
  ranking.seed_count = partitions;
  // As if allowed rows were spread evenly, and half as many again.
  const double needed = 1.5 * static_cast<double>(wanted) / static_cast<double>(allowed.count()) * partitions;
  std::vector<uint32_t> rows;
  for (double room = std::ceil(needed) + 1;; room *= 4) {
    ranking.ef = static_cast<uint32_t>(std::min<double>(room, partitions));
    WalkScratch& scratch = WalkScratch::of_thread(vectors_.rows, ranking.degree, ranking.ef);
    scratch.fill(ranking);
    kernel_.walk(ranking);
    scratch.clear(ranking);
    rows.clear();
    for (uint32_t i = 0; i < ranking.found && rows.size() < wanted; ++i) {
      const uint32_t* bounds = graph_->graph().partition_starts.data() + ranking.rows[i];
      allowed.append_rows(bounds[0], bounds[1], rows);
    }
    if (rows.size() >= wanted || ranking.ef == partitions) return rows;
  }
}

// The best `wanted` rows of the pool that may be answered, by their external numbers; returns how many of the pool are
// excluded.
size_t ExactIndex::collect(const WalkJob& job, const WalkPlan& plan, const ExcludedRows& excluded, size_t wanted,
                           std::vector<uint32_t>& rows) const {
  rows.clear();
  size_t met = 0;
  for (uint32_t i = 0; i < job.found; ++i) {
    if (rows.size() == wanted && excluded.empty()) break;
    const uint32_t internal = job.rows[i] & ~kExpandedBit;
    if (plan.allowed != nullptr && !plan.allowed->allows(internal)) continue;
    const uint32_t external = order_.external(internal);
    if (!excluded.empty() && excluded.contains(external)) {
      ++met;
    } else if (rows.size() < wanted) {
      rows.push_back(external);
    }
  }
  return met;
}

// False when the walk did not find k rows although there are as many, or gave up: a scan must answer.
bool ExactIndex::walk_one(Batch& batch, size_t q, const QueryCodes& codes, const WalkPlan& plan, WalkWork& work) const {
  const SearchParams& params = batch.params;
  const ExcludedRows excluded = params.exclusions == nullptr ? ExcludedRows{} : params.exclusions->of(q);
  const size_t hidden = excluded.count();
  const size_t there = plan.allowed == nullptr ? vectors_.rows : plan.allowed->count();
  const size_t enough = std::min<size_t>(params.k, there - std::min(there, hidden));

  WalkJob job{};
  job.items = item_codes_.view().rows;
  graph_->fill(job);
  codes.fill(job, q);
  // The stop rule compares squared distances `base - key`, in units of keys.
  const double base = codes.distance_base(q, largest_norm_);
  job.stop_slope = params.stop;
  job.stop_shift = static_cast<float>(base * (1 - double{params.stop}));
  job.scored_max = std::max<uint64_t>(kScoredFloor, vectors_.rows / kScoredShare);
  job.expand = plan.expand;
  const std::vector<uint32_t>* seeds = &plan.seeds;
  std::vector<uint32_t> probed;
  if (plan.path == SearchPath::kFilteredProbe) {
    const size_t pool = std::max<size_t>(params.ef, params.k) + std::min(hidden, kSurplus);
    probed = probed_rows(q, codes, *plan.allowed, kProbedPerPool * pool);
    seeds = &probed;
  }
  if (plan.path != SearchPath::kWalk) {
    job.seeds = seeds->data();
    job.seed_count = static_cast<uint32_t>(seeds->size());
    job.allowed = plan.allowed->words();
    job.hops = plan.hops;
    job.hop_width = (job.degree + 1) / 2;
    job.enough = (job.degree + 1) / 2;
  }
  // Excluded rows are walked over like any other and then left out, so the pool needs room for those that the query
  // meets. How many these are, only the walk can tell: few of a long list, as a rule, and when they were more, it walks
  // again.
  std::vector<uint32_t> rows;
  for (size_t surplus = std::min(hidden, kSurplus);;) {
    const size_t entries = plan.allowed == nullptr ? 0 : kBestEntries;
    const size_t room = std::max<size_t>(params.ef, params.k) + entries + surplus;
    if (room > kEfMax) return false;
    job.ef = static_cast<uint32_t>(room);
    job.stop_at = static_cast<uint32_t>(std::max(params.k, params.stop_rank) - 1 + surplus);
    WalkScratch& scratch = WalkScratch::of_thread(vectors_.rows, job.degree, job.ef);
    scratch.fill(job);
    kernel_.walk(job);
    scratch.clear(job);
    work.scored += job.scored;
    work.expanded += job.expanded;
    if (job.gave_up) return false;
    const size_t met = collect(job, plan, excluded, std::max<size_t>(params.rescore, params.k), rows);
    if (met <= surplus || surplus == hidden) break;
    surplus = std::min(hidden, 2 * met);
  }
  if (rows.size() < enough) return false;

  const float* query = batch.queries + q * vectors_.dims;
  std::vector<double> scores(rows.size());
  score_rows_unchecked(query, query_norm(query), rows.data(), 0, static_cast<uint32_t>(rows.size()), scores.data());
  TopHits top(params.k);
  for (size_t i = 0; i < rows.size(); ++i) top.offer(scores[i], rows[i]);
  write(batch, q, top);
  return true;
}

void ExactIndex::walk(Batch& batch) const {
  const QueryCodes codes(batch.queries, batch.count, vectors_.dims, metric_, item_codes_.exponent(), 0);
  std::shared_ptr<const RowFilter> internal;
  const RowFilter* allowed = batch.params.filter;
  if (allowed != nullptr && !order_.identity()) {
    internal = order_.internal(*allowed);
    allowed = internal.get();
  }
  const WalkPlan plan = plan_walk(allowed);
  batch.hits.path = plan.path;
  std::vector<char> failed(batch.count, 0);
  std::atomic<uint64_t> scored{0}, expanded{0};
  const size_t tasks = (batch.count + kQueriesPerTask - 1) / kQueriesPerTask;
  const auto task = [&](size_t t) {
    const size_t end = std::min(batch.count, (t + 1) * kQueriesPerTask);
    WalkWork work;
    for (size_t q = t * kQueriesPerTask; q < end; ++q) failed[q] = walk_one(batch, q, codes, plan, work) ? 0 : 1;
    scored += work.scored;
    expanded += work.expanded;
  };
  if (tasks == 1) {
    task(0);
  } else {
    ThreadPool::instance().parallel_for(tasks, threads_, task);
  }
  batch.hits.scored = scored;
  batch.hits.expanded = expanded;
  scan_failed(batch, failed);
}

}  // namespace belfry
