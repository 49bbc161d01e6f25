#pragma once

// Index files as bytes, for tests that damage them: makes a small graph, reads and writes whole files, and sets every
// checksum right again, so that what is behind the checksums is reached as well.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "kernels/crc32c.hpp"
#include "storage/graph_file.hpp"

namespace belfry::test {

inline constexpr size_t kTableAt = 128, kTableEntry = 32, kHeaderChecksumAt = 4092;

template <class T>
T get(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
template <class T>
void put(std::string& bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// Does nothing to what is no index file. Sections that leave the file keep their checksums.
inline void repair_checksums(std::string& bytes) {
  if (bytes.size() < 4096) return;
  const uint32_t sections = get<uint32_t>(bytes, 12);
  for (uint32_t i = 0; i < sections && i < 32; ++i) {
    const size_t at = kTableAt + i * kTableEntry;
    const auto offset = get<uint64_t>(bytes, at + 8), length = get<uint64_t>(bytes, at + 16);
    if (length > bytes.size() || offset > bytes.size() - length) continue;
    put(bytes, at + 24, crc32c(bytes.data() + offset, length));
  }
  put(bytes, kHeaderChecksumAt, crc32c(bytes.data(), kHeaderChecksumAt));
}

inline std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// Random lists of different lengths, a shuffled order, partitions of different sizes.
inline Graph sample_graph(uint32_t rows, uint32_t degree, uint64_t seed) {
  std::mt19937_64 random(seed);
  Graph graph;
  graph.rows = rows;
  graph.degree = degree;
  graph.query_edges = 2;
  graph.seed = seed;
  graph.alpha = 1.2F;
  graph.neighbours = AlignedBuffer<uint32_t>(size_t{rows} * degree);
  for (uint32_t row = 0; row < rows; ++row) {
    const uint64_t used = rows > 1 ? random() % (degree + 1) : 0;
    for (uint32_t i = 0; i < degree; ++i) {
      const auto other = static_cast<uint32_t>((row + 1 + random() % (rows > 1 ? rows - 1 : 1)) % rows);
      graph.neighbours[size_t{row} * degree + i] = i < used ? other : kNoNeighbour;
    }
  }
  for (uint32_t row = 0; row < rows; ++row) graph.order.push_back(row);
  std::shuffle(graph.order.begin(), graph.order.end(), random);
  for (uint32_t start = 0; start < rows;) {
    const auto size = static_cast<uint32_t>(1 + random() % (rows - start));
    graph.partition_starts.push_back(start);
    graph.entries.push_back(static_cast<uint32_t>(start + random() % size));
    start += size;
  }
  graph.partition_starts.push_back(rows);
  // An entry of no partition's own.
  if (graph.entries.size() < rows) graph.entries.push_back(static_cast<uint32_t>(random() % rows));
  return graph;
}

inline GraphIdentity sample_identity(uint32_t rows) { return {rows, 48, Metric::kCosine, "sha256:5e884898da28"}; }

}  // namespace belfry::test
