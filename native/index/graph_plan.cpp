// Which rows are compared with which.

#include <algorithm>
#include <numeric>

#include "core/thread_pool.hpp"
#include "index/graph_stages.hpp"

namespace belfry::graph_build {

namespace {

// Finds, for each row, the `count` partitions with the nearest centres.
Probes find_probes(const Context& context, const CodedRows& rows, const Partitions& partitions, uint32_t count) {
  const PackedRows centres(context, partitions.centres);
  const uint32_t parts = partitions.count();
  Probes probes(partitions.starts, count);
  ThreadPool::instance().parallel_for(parts, context.options.threads, [&](size_t index) {
    context.check();
    const auto p = static_cast<uint32_t>(index);
    const uint32_t begin = partitions.starts[p], size = partitions.starts[p + 1] - begin;
    AlignedBuffer<float> distance(centres.padded());
    AlignedBuffer<uint32_t> number(centres.padded());
    std::vector<uint32_t> chosen(size_t{size} * count);
    uint32_t* starts = probes.starts(p);
    for (uint32_t i = 0; i < size; ++i) {
      centres.distances(rows, begin + i, distance.data());
      std::iota(number.data(), number.data() + parts, 0U);
      (void)context.pairs().cut(distance.data(), number.data(), parts, count);
      for (uint32_t j = 0; j < count; ++j) ++starts[number[j] + 1];
      std::copy_n(number.data(), count, chosen.data() + size_t{i} * count);
    }
    for (uint32_t q = 0; q < parts; ++q) starts[q + 1] += starts[q];
    std::vector<uint32_t> next(starts, starts + parts);
    uint16_t* members = probes.members(p);
    for (uint32_t i = 0; i < size; ++i) {
      for (uint32_t j = 0; j < count; ++j) members[next[chosen[size_t{i} * count + j]]++] = static_cast<uint16_t>(i);
    }
  });
  return probes;
}

}  // namespace

Probes::Probes(std::vector<uint32_t> partition_starts, uint32_t count)
    : count_(count),
      partition_starts_(std::move(partition_starts)),
      starts_((partition_starts_.size() - 1) * partition_starts_.size()),
      members_(size_t{partition_starts_.back()} * count) {}

uint32_t probe_count(uint32_t rows, uint32_t partitions, const GraphBuildOptions& options) {
  const uint64_t wanted = options.pairs_per_row * partitions / rows + 1;
  // Pairs that both sides ask for are met twice: from half of the partitions on, all pairs cost no more.
  return wanted * 2 >= partitions ? partitions : static_cast<uint32_t>(wanted);
}

JoinPlan plan_joins(const Context& context, const CodedRows& rows, const Partitions& partitions) {
  const uint32_t count = partitions.count();
  // For each partition the others, nearest first.
  std::vector<uint32_t> near(size_t{count} * count);
  const PackedRows centres(context, partitions.centres);
  context.for_rows(count, 0, [&](uint32_t first, uint32_t end) {
    AlignedBuffer<float> distance(centres.padded());
    for (uint32_t p = first; p < end; ++p) {
      centres.distances(partitions.centres, p, distance.data());
      distance[p] = -1;  // itself first
      const auto begin = near.begin() + static_cast<std::ptrdiff_t>(size_t{p} * count);
      std::iota(begin, begin + count, 0U);
      std::sort(begin, begin + count,
                [&](uint32_t x, uint32_t y) { return distance[x] != distance[y] ? distance[x] < distance[y] : x < y; });
    }
  });

  JoinPlan plan;
  const uint32_t probes = probe_count(rows.rows, count, context.options);
  if (probes < count) plan.probes = find_probes(context, rows, partitions, probes);
  std::vector<bool> planned(size_t{count} * count);
  for (uint32_t rank = 0; rank < count; ++rank) {
    for (uint32_t p = 0; p < count; ++p) {
      const uint32_t q = near[size_t{p} * count + rank];
      if (planned[size_t{p} * count + q]) continue;
      planned[size_t{p} * count + q] = planned[size_t{q} * count + p] = true;
      const uint64_t pairs = join_pairs(plan, partitions, p, q);
      if (pairs == 0) continue;
      plan.tasks.emplace_back(p, q);
      plan.pairs += pairs;
    }
  }
  return plan;
}

uint64_t join_pairs(const JoinPlan& plan, const Partitions& partitions, uint32_t a, uint32_t b) {
  const uint64_t left = partitions.starts[a + 1] - partitions.starts[a];
  const uint64_t right = partitions.starts[b + 1] - partitions.starts[b];
  if (a == b) return left * left;
  if (plan.probes.empty()) return left * right;
  return plan.probes.rows(a, b).size() * right + plan.probes.rows(b, a).size() * left;
}

}  // namespace belfry::graph_build
