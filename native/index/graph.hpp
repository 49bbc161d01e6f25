#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "core/aligned_buffer.hpp"
#include "core/metric.hpp"
#include "index/vector_source.hpp"
#include "kernels/kernels.hpp"

namespace belfry {

inline constexpr uint32_t kNoNeighbour = 0xffffffffU;
inline constexpr uint32_t kDegreeMin = 8, kDegreeMax = 128;
inline constexpr uint32_t kCandidatesMin = 8, kCandidatesMax = 256;

// A flat graph over the rows of a VectorSource, in internal rows: position after grouping items by partition, so that
// near items lie near each other in memory.
struct Graph {
  uint32_t rows = 0;
  uint32_t degree = 0;                     // slots per row
  AlignedBuffer<uint32_t> neighbours;      // rows x degree: no duplicates, no self, then kNoNeighbour; nearest first,
                                           // then edges found through users
  std::vector<uint32_t> order;             // rows: internal row -> row of the source
  std::vector<uint32_t> partition_starts;  // partitions + 1: first internal row of each; partitions are not empty
  // For each partition the internal row nearest to its centre; behind those, rows that nothing else leads to.
  std::vector<uint32_t> entries;
  uint32_t query_edges = 0;  // slots per row that were kept for edges found through user vectors
  uint64_t seed = 0;
  float alpha = 0;
};

struct GraphBuildOptions {
  uint32_t degree = 64;      // slots per row, 8 .. kDegreeMax, a multiple of 8
  uint32_t candidates = 64;  // nearest neighbours searched per row, 8 .. 256
  // Edges are chosen as by robust prune with alpha 1 on squared distances; while a list is not full, its own alpha
  // grows up to this: near rows are added although nearer ones stand in for them.
  float alpha = 4;
  uint32_t partitions = 0;  // 0: about sqrt(rows)
  // Each row is compared with the rows of the partitions nearest to it, about so many; all with all where that costs no
  // more, up to about twice as many rows.
  uint64_t pairs_per_row = 50'000;
  uint64_t seed = 1;
  size_t threads = 1;
  // User vectors of the same dims (ip and cosine compare them with items by the metric): edges between items that
  // answer the same user. Null: none.
  const VectorSource* users = nullptr;
  uint32_t users_max = 100'000;  // at most so many are used, evenly spaced
};

// Shared by the building thread and whoever watches it. `done` and `total` count the whole build in one unit of work
// (pairs of items scored, other steps by their cost), so elapsed * (total - done) / done estimates what is left.
enum class BuildPhase : uint32_t { kOrder, kNeighbours, kPrune, kUsers, kConnect };
struct BuildProgress {
  std::atomic<BuildPhase> phase{BuildPhase::kOrder};
  std::atomic<uint64_t> done{0};
  std::atomic<uint64_t> total{0};
  std::atomic<bool> cancelled{false};  // set by the watcher; the build then ends with BELFRY_CLOSED
};

// The graph is built for L2 on the vectors (ip, l2) or on the unit vectors (cosine), from their 8-bit codes. The result
// depends on vectors, metric and options only; not on threads or kernel. Throws BELFRY_INVALID_ARGUMENT,
// BELFRY_BAD_VECTOR (not finite), BELFRY_DIMS_MISMATCH (users), BELFRY_CLOSED (cancelled).
Graph build_graph(const VectorSource& vectors, Metric metric, const KernelTable& kernel,
                  const GraphBuildOptions& options, BuildProgress& progress);

// Internal rows that no path of edges from an entry leads to: no walk can ever return them.
std::vector<uint32_t> unreachable_rows(const Graph& graph);

// An upper bound of the bytes that build_graph allocates at any one time, the graph itself included.
size_t graph_build_memory(uint32_t rows, uint32_t dims, const GraphBuildOptions& options);

}  // namespace belfry
