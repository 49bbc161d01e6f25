#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/metric.hpp"
#include "index/graph.hpp"

namespace belfry {

// What a graph belongs to. Opened over other vectors it would find wrong rows without any error.
struct GraphIdentity {
  uint32_t rows = 0;
  uint32_t dims = 0;
  Metric metric = Metric::kIp;
  std::string vectors;  // the SHA-256 of the item vectors' file, say: 1 to 64 printable ASCII characters, no space
};

enum class LoadMode : uint32_t {
  kHuge,  // read into memory with huge pages: fastest to search
  kMmap,  // mapped and shared with other processes; nobody may change the file while the graph lives
};

struct LoadedGraph {
  Graph graph;  // read-only in mode kMmap
  std::string notes;
};

inline constexpr size_t kNotesBytesMax = size_t{16} << 20;

// Throws BELFRY_INVALID_ARGUMENT for texts that write_graph would refuse: better known before a long build than after.
void check_graph_texts(const std::string& vectors, const std::string& notes);

// Writes the graph and `notes` (UTF-8 text: calibration and the like) to an index file, which is there whole or not at
// all. Throws BELFRY_DISK_SPACE, BELFRY_FILE_UNREADABLE, BELFRY_INVALID_ARGUMENT (identity or notes), BELFRY_INTERNAL
// (a graph that read_graph would refuse).
void write_graph(const std::string& path, const Graph& graph, const GraphIdentity& identity, const std::string& notes,
                 size_t threads);

// Reads it back. Every byte is checked, and every row number in it, before the graph is returned. Memory is bounded by
// the size of the file and by `expected`. Throws BELFRY_INDEX_MISMATCH when the file belongs to other vectors, and
// BELFRY_FILE_UNREADABLE, BELFRY_FILE_CORRUPT, BELFRY_FILE_VERSION, BELFRY_FILE_CHANGED.
LoadedGraph read_graph(const std::string& path, const GraphIdentity& expected, LoadMode mode, size_t threads);

}  // namespace belfry
