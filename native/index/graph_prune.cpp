// From lists of near rows to a graph: robust prune, reverse edges, and a second prune of both.

#include <algorithm>
#include <atomic>
#include <vector>

#include "index/graph_select.hpp"
#include "index/graph_stages.hpp"

namespace belfry::graph_build {

namespace {

// Reverse edges grouped by target: a counting sort. Their order within a target is left to the threads; whoever reads
// them sorts.
struct ReverseEdges {
  std::vector<uint64_t> starts;
  AlignedBuffer<float> distance;
  AlignedBuffer<uint32_t> from;
};

ReverseEdges reverse(const Context& context, NeighbourLists& lists, const std::vector<uint32_t>& chosen) {
  const auto rows = static_cast<uint32_t>(chosen.size());
  ReverseEdges edges;
  edges.starts.resize(size_t{rows} + 1);
  context.for_rows(rows, 0, [&](uint32_t first, uint32_t end) {
    for (uint32_t row = first; row < end; ++row) {
      const uint32_t* to = lists.rows_of(row);
      for (uint32_t i = 0; i < chosen[row]; ++i) {
        std::atomic_ref(edges.starts[to[i] + size_t{1}]).fetch_add(1, std::memory_order_relaxed);
      }
    }
  });
  for (size_t row = 0; row < rows; ++row) edges.starts[row + 1] += edges.starts[row];
  edges.distance = AlignedBuffer<float>(edges.starts[rows]);
  edges.from = AlignedBuffer<uint32_t>(edges.starts[rows]);
  std::vector<uint64_t> next(edges.starts.begin(), edges.starts.end() - 1);
  context.for_rows(rows, 0, [&](uint32_t first, uint32_t end) {
    for (uint32_t row = first; row < end; ++row) {
      const uint32_t* to = lists.rows_of(row);
      const float* distance = lists.distances_of(row);
      for (uint32_t i = 0; i < chosen[row]; ++i) {
        const uint64_t at = std::atomic_ref(next[to[i]]).fetch_add(1, std::memory_order_relaxed);
        edges.distance[at] = distance[i];
        edges.from[at] = row;
      }
    }
  });
  return edges;
}

}  // namespace

void prune_lists(const Context& context, const CodedRows& rows, NeighbourLists& lists, Graph& graph) {
  // The first prune leaves room for reverse edges.
  const uint32_t degree = context.options.degree, first_degree = degree / 4 * 3;
  // First prune: the chosen ones move to the front of each list, in order.
  std::vector<uint32_t> chosen(rows.rows);
  context.for_rows(rows.rows, kPruneWorkPerRow / 2, [&](uint32_t first, uint32_t end) {
    Selector selector(context, rows);
    for (uint32_t row = first; row < end; ++row) {
      if (lists.size[row] == 0) continue;
      float* distance = lists.distances_of(row);
      uint32_t* others = lists.rows_of(row);
      const uint32_t* selected = selector.select(distance, others, lists.size[row], first_degree, chosen[row]);
      for (uint32_t i = 0; i < chosen[row]; ++i) {
        distance[i] = distance[selected[i]];
        others[i] = others[selected[i]];
      }
    }
  });
  const ReverseEdges edges = reverse(context, lists, chosen);
  context.for_rows(rows.rows, kPruneWorkPerRow / 2, [&](uint32_t first, uint32_t end) {
    Selector selector(context, rows);
    std::vector<uint64_t> candidates;
    std::vector<float> distance(kSelectMax);
    std::vector<uint32_t> others(kSelectMax);
    for (uint32_t row = first; row < end; ++row) {
      candidates.clear();
      for (uint32_t i = 0; i < chosen[row]; ++i) {
        candidates.push_back(pack_neighbour(lists.distances_of(row)[i], lists.rows_of(row)[i]));
      }
      for (uint64_t i = edges.starts[row]; i < edges.starts[row + size_t{1}]; ++i) {
        candidates.push_back(pack_neighbour(edges.distance[i], edges.from[i]));
      }
      std::sort(candidates.begin(), candidates.end());
      // A pair has one distance, so its two mentions are neighbours now.
      candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
      const auto count = static_cast<uint32_t>(std::min<size_t>(candidates.size(), kSelectMax));
      if (count == 0) continue;
      for (uint32_t i = 0; i < count; ++i) {
        distance[i] = neighbour_distance(candidates[i]);
        others[i] = neighbour_row(candidates[i]);
      }
      uint32_t taken = 0;
      const uint32_t* selected = selector.select(distance.data(), others.data(), count, degree, taken);
      for (uint32_t i = 0; i < taken; ++i) graph.neighbours[size_t{row} * degree + i] = others[selected[i]];
    }
  });
}

}  // namespace belfry::graph_build
