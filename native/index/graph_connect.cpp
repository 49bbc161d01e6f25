// Every row must be reachable from the entries.

#include <algorithm>

#include "index/graph_stages.hpp"

namespace belfry::graph_build {

namespace {

constexpr uint32_t kRounds = 8;

class Reach {
 public:
  explicit Reach(const Graph& graph) : graph_(graph), reached_(graph.rows) {
    for (uint32_t entry : graph.entries) spread(entry);
  }
  bool reached(uint32_t row) const { return reached_[row]; }
  // Marks a row and all that its edges lead to.
  void spread(uint32_t from) {
    if (reached_[from]) return;
    reached_[from] = true;
    stack_.push_back(from);
    while (!stack_.empty()) {
      const uint32_t row = stack_.back();
      stack_.pop_back();
      for (uint32_t i = 0; i < graph_.degree; ++i) {
        const uint32_t next = graph_.neighbours[size_t{row} * graph_.degree + i];
        if (next == kNoNeighbour) break;
        if (reached_[next]) continue;
        reached_[next] = true;
        stack_.push_back(next);
      }
    }
  }

 private:
  const Graph& graph_;
  std::vector<bool> reached_;
  std::vector<uint32_t> stack_;
};

// The row's neighbour to be linked from: a reached one with a free slot, else the nearest reached one, else the entry
// of the row's partition.
uint32_t host_of(const Graph& graph, const Reach& reach, uint32_t row) {
  const uint32_t* list = graph.neighbours.data() + size_t{row} * graph.degree;
  uint32_t nearest = kNoNeighbour;
  for (uint32_t i = 0; i < graph.degree && list[i] != kNoNeighbour; ++i) {
    if (!reach.reached(list[i])) continue;
    if (graph.neighbours[size_t{list[i]} * graph.degree + graph.degree - 1] == kNoNeighbour) return list[i];
    if (nearest == kNoNeighbour) nearest = list[i];
  }
  if (nearest != kNoNeighbour) return nearest;
  const auto after = std::upper_bound(graph.partition_starts.begin(), graph.partition_starts.end(), row);
  return graph.entries[static_cast<size_t>(after - graph.partition_starts.begin()) - 1];
}

}  // namespace

void connect(const Context& context, Graph& graph) {
  for (uint32_t round = 0; round < kRounds; ++round) {
    context.check();
    Reach reach(graph);
    bool replaced = false;
    for (uint32_t row = 0; row < graph.rows; ++row) {
      if (reach.reached(row)) continue;
      uint32_t* list = graph.neighbours.data() + size_t{host_of(graph, reach, row)} * graph.degree;
      uint32_t slot = 0;
      while (slot + 1 < graph.degree && list[slot] != kNoNeighbour) ++slot;
      replaced = replaced || list[slot] != kNoNeighbour;
      list[slot] = row;
      reach.spread(row);
    }
    if (!replaced) return;
  }
  // Taking the last slot of a full list may have cut off another row each time; such rows become entries.
  Reach reach(graph);
  for (uint32_t row = 0; row < graph.rows; ++row) {
    if (reach.reached(row)) continue;
    graph.entries.push_back(row);
    reach.spread(row);
  }
}

}  // namespace belfry::graph_build

namespace belfry {

std::vector<uint32_t> unreachable_rows(const Graph& graph) {
  const graph_build::Reach reach(graph);
  std::vector<uint32_t> rows;
  for (uint32_t row = 0; row < graph.rows; ++row) {
    if (!reach.reached(row)) rows.push_back(row);
  }
  return rows;
}

}  // namespace belfry
