// The nearest rows of each row: partitions are joined with themselves and with those nearest to them, each pair of rows
// scored once for both sides.

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>
#include <queue>
#include <utility>

#include "core/thread_pool.hpp"
#include "index/graph_stages.hpp"

namespace belfry::graph_build {

namespace {

constexpr uint32_t kJoinChunkRows = 192;  // rows whose signed codes stay in the L1 cache beside a tile

// Runs tasks that each need two partitions, so that every partition sees its tasks in the order of the list: the same
// lists as on one thread, whatever the number of threads. A task is ready when it is the next one of both.
class OrderedTasks {
 public:
  OrderedTasks(const JoinPlan& plan, uint32_t partitions) : plan_(plan), queues_(partitions), next_(partitions, 0) {
    for (uint32_t t = 0; t < plan.tasks.size(); ++t) {
      queues_[plan.tasks[t].first].push_back(t);
      if (plan.tasks[t].second != plan.tasks[t].first) queues_[plan.tasks[t].second].push_back(t);
    }
    for (uint32_t p = 0; p < partitions; ++p) {
      if (!queues_[p].empty()) push_if_ready(queues_[p][0], p);
    }
  }

  // Takes tasks until all are done. `run` may throw: then the others stop too.
  template <class Run>
  void work(const Run& run) {
    for (;;) {
      uint32_t task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return failed_ || done_ == plan_.tasks.size() || !ready_.empty(); });
        if (failed_ || ready_.empty()) return;
        task = ready_.top();
        ready_.pop();
      }
      try {
        run(task);
      } catch (...) {
        finish(task, true);
        throw;
      }
      finish(task, false);
    }
  }

 private:
  uint32_t head(uint32_t partition) const {
    const std::vector<uint32_t>& queue = queues_[partition];
    return next_[partition] < queue.size() ? queue[next_[partition]] : std::numeric_limits<uint32_t>::max();
  }
  // Called for the heads of both partitions; a task is pushed when the second of them is reached.
  void push_if_ready(uint32_t task, uint32_t reached) {
    const auto [a, b] = plan_.tasks[task];
    const uint32_t other = a == reached ? b : a;
    if (a == b || (head(other) == task && other < reached) || (head(other) == task && started_)) ready_.push(task);
  }
  void finish(uint32_t task, bool failed) {
    const std::lock_guard lock(mutex_);
    started_ = true;
    failed_ = failed_ || failed;
    ++done_;
    const auto [a, b] = plan_.tasks[task];
    ++next_[a];
    if (b != a) ++next_[b];
    const uint32_t head_a = head(a), head_b = head(b);
    if (head_a < plan_.tasks.size()) push_if_ready(head_a, a);
    if (b != a && head_b < plan_.tasks.size() && head_b != head_a) push_if_ready(head_b, b);
    changed_.notify_all();
  }

  const JoinPlan& plan_;
  std::vector<std::vector<uint32_t>> queues_;
  std::vector<size_t> next_;
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ready_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t done_ = 0;
  bool failed_ = false, started_ = false;
};

// All rows as columns. Blocks do not cross partitions, so that a partition is whole tiles.
class PackedPartitions {
 public:
  PackedPartitions(const Context& context, const CodedRows& rows, const Partitions& partitions) : rows_(rows) {
    for (uint32_t p = 0; p < partitions.count(); ++p) {
      first_block_.push_back(blocks_);
      const uint32_t size = partitions.starts[p + 1] - partitions.starts[p];
      blocks_ += (size + kPairBlockRows - 1) / kPairBlockRows;
    }
    // A last tile may reach three blocks beyond its partition.
    codes_ = AlignedBuffer<int8_t>((blocks_ + kTileBlocks) * block_bytes());
    context.for_rows(partitions.count(), 0, [&](uint32_t first, uint32_t end) {
      for (uint32_t p = first; p < end; ++p) {
        const uint32_t begin = partitions.starts[p];
        context.pairs().pack(rows.row(begin), rows.stride, rows.groups, nullptr, partitions.starts[p + 1] - begin,
                             codes_.data() + first_block_[p] * block_bytes());
      }
    });
  }
  const int8_t* tile(uint32_t partition, uint32_t tile) const noexcept {
    return codes_.data() + (first_block_[partition] + uint64_t{tile} * kTileBlocks) * block_bytes();
  }

 private:
  static constexpr uint32_t kTileBlocks = kPairTileRows / kPairBlockRows;
  size_t block_bytes() const noexcept { return size_t{rows_.groups} * 64; }

  const CodedRows& rows_;
  std::vector<uint64_t> first_block_;
  uint64_t blocks_ = 0;
  AlignedBuffer<int8_t> codes_;
};

// What one thread needs to join two partitions.
class Joiner {
 public:
  Joiner(const Context& context, const CodedRows& rows, const Partitions& partitions, const PackedPartitions& packed,
         NeighbourLists& lists)
      : pairs_(context.pairs()),
        rows_(rows),
        partitions_(partitions),
        packed_(packed),
        lists_(lists),
        hits_(size_t{kJoinChunkRows} * kPairTileRows) {}

  void join(uint32_t a, uint32_t b) {
    const uint32_t begin = partitions_.starts[b], end = partitions_.starts[b + 1];
    for (uint32_t first = partitions_.starts[a]; first < partitions_.starts[a + 1]; first += kJoinChunkRows) {
      const uint32_t count = std::min(kJoinChunkRows, partitions_.starts[a + 1] - first);
      for (uint32_t column = begin; column < end; column += kPairTileRows) {
        const uint32_t columns = std::min(kPairTileRows, end - column);
        if (a == b && column + columns <= first + 1) continue;  // met from the other side
        join_tile(first, count, column, columns, packed_.tile(b, (column - begin) / kPairTileRows), a == b);
      }
    }
  }

 private:
  void join_tile(uint32_t first, uint32_t count, uint32_t column, uint32_t columns, const int8_t* blocks, bool same) {
    alignas(64) float scale[kPairTileRows] = {}, norm[kPairTileRows] = {}, limit[kPairTileRows] = {};
    alignas(64) int32_t offset[kPairTileRows] = {};
    std::memcpy(scale, rows_.scale.data() + column, columns * sizeof(float));
    std::memcpy(norm, rows_.norm.data() + column, columns * sizeof(float));
    std::memcpy(limit, lists_.limit.data() + column, columns * sizeof(float));
    std::memcpy(offset, rows_.offset.data() + column, columns * sizeof(int32_t));
    JoinJob job{};
    job.columns = {rows_.groups, blocks, scale, norm, offset};
    job.column_limit = limit;
    job.present = columns == 64 ? ~uint64_t{0} : (uint64_t{1} << columns) - 1;
    job.rows = rows_.row(first);
    job.stride = rows_.stride;
    job.scale = rows_.scale.data() + first;
    job.norm = rows_.norm.data() + first;
    job.limit = lists_.limit.data() + first;
    job.count = count;
    job.diagonal = same ? int64_t{column} - int64_t{first} : std::numeric_limits<int32_t>::max();
    const uint32_t found = pairs_.join(job, hits_.data());
    for (uint32_t i = 0; i < found; ++i) {
      const JoinHit& hit = hits_[i];
      lists_.offer(pairs_, first + hit.row, column + hit.column, hit.distance);
      lists_.offer(pairs_, column + hit.column, first + hit.row, hit.distance);
    }
  }

  const PairKernels& pairs_;
  const CodedRows& rows_;
  const Partitions& partitions_;
  const PackedPartitions& packed_;
  NeighbourLists& lists_;
  std::vector<JoinHit> hits_;
};

}  // namespace

NeighbourLists::NeighbourLists(uint32_t row_count, uint32_t kept)
    : keep(kept),
      capacity(capacity_for(kept)),
      distances(size_t{row_count} * capacity),
      rows(size_t{row_count} * capacity),
      size(row_count),
      limit(row_count, std::numeric_limits<float>::infinity()) {}

uint64_t pair_budget(uint32_t rows, const GraphBuildOptions& options) {
  constexpr uint64_t kRowsFully = 100'000;
  const uint64_t all = uint64_t{rows} * rows / 2;
  // The nearest 60 % of the pairs of GloVe hold 98 % of the neighbours, and the graph is as good as from all.
  return std::min(rows * options.pairs_per_row, rows <= kRowsFully ? all : all / 10 * 6);
}

JoinPlan plan_joins(const Context& context, const Partitions& partitions) {
  const uint32_t count = partitions.count();
  const uint64_t rows = partitions.order.size();
  const uint64_t budget = pair_budget(static_cast<uint32_t>(rows), context.options);
  const auto size = [&](uint32_t p) { return uint64_t{partitions.starts[p + 1]} - partitions.starts[p]; };
  // The nearest partitions of each; twice as many as the budget can pay for on the average, since pairs meet twice.
  const uint64_t affordable = 2 * budget / rows * count / rows + 16;
  const auto width = static_cast<uint32_t>(std::min<uint64_t>(count, 2 * affordable));
  std::vector<uint32_t> near(size_t{count} * width);
  const PackedRows centres(context, partitions.centres);
  context.for_rows(count, 0, [&](uint32_t first, uint32_t end) {
    AlignedBuffer<float> distance(centres.padded());
    std::vector<uint32_t> by_distance(count);
    for (uint32_t p = first; p < end; ++p) {
      centres.distances(partitions.centres, p, distance.data());
      distance[p] = -1;  // itself first
      std::iota(by_distance.begin(), by_distance.end(), 0U);
      std::partial_sort(
          by_distance.begin(), by_distance.begin() + width, by_distance.end(),
          [&](uint32_t x, uint32_t y) { return distance[x] != distance[y] ? distance[x] < distance[y] : x < y; });
      std::copy_n(by_distance.begin(), width, near.begin() + static_cast<std::ptrdiff_t>(size_t{p} * width));
    }
  });

  JoinPlan plan;
  std::vector<bool> planned(size_t{count} * count);
  for (uint32_t rank = 0; rank < width && plan.pairs < budget; ++rank) {
    for (uint32_t p = 0; p < count && plan.pairs < budget; ++p) {
      const uint32_t q = near[size_t{p} * width + rank];
      if (planned[size_t{p} * count + q]) continue;
      planned[size_t{p} * count + q] = planned[size_t{q} * count + p] = true;
      plan.tasks.emplace_back(p, q);
      plan.pairs += p == q ? size(p) * (size(p) - 1) / 2 : size(p) * size(q);
    }
  }
  return plan;
}

NeighbourLists find_neighbours(const Context& context, const CodedRows& rows, const Partitions& partitions,
                               const JoinPlan& plan) {
  NeighbourLists lists(rows.rows, context.options.candidates);
  const PackedPartitions packed(context, rows, partitions);
  OrderedTasks tasks(plan, partitions.count());
  ThreadPool::instance().parallel_for(context.options.threads, context.options.threads, [&](size_t) {
    Joiner joiner(context, rows, partitions, packed, lists);
    tasks.work([&](uint32_t task) {
      context.check();
      const auto [a, b] = plan.tasks[task];
      joiner.join(a, b);
      const uint64_t left = partitions.starts[a + 1] - partitions.starts[a];
      const uint64_t right = partitions.starts[b + 1] - partitions.starts[b];
      context.advance(a == b ? left * (left - 1) / 2 : left * right);
    });
  });
  context.for_rows(rows.rows, 0, [&](uint32_t first, uint32_t end) {
    std::vector<std::pair<float, uint32_t>> sorted;
    for (uint32_t row = first; row < end; ++row) {
      lists.cut(context.pairs(), row);
      float* distances = lists.distances_of(row);
      uint32_t* others = lists.rows_of(row);
      sorted.clear();
      for (uint32_t i = 0; i < lists.size[row]; ++i) sorted.emplace_back(distances[i], others[i]);
      std::sort(sorted.begin(), sorted.end());
      for (uint32_t i = 0; i < sorted.size(); ++i) std::tie(distances[i], others[i]) = sorted[i];
    }
  });
  return lists;
}

}  // namespace belfry::graph_build
