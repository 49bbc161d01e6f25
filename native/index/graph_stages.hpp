#pragma once

// What the stages of build_graph share; nobody else includes it.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "core/aligned_buffer.hpp"
#include "index/graph.hpp"

namespace belfry::graph_build {

inline constexpr uint32_t kChunkRows = 1024;  // rows of one task where rows are independent
inline constexpr uint32_t kAnswers = 32;      // best items of a user that are linked to each other

struct Context {
  const VectorSource& vectors;
  Metric metric;
  const KernelTable& kernel;
  const GraphBuildOptions& options;
  BuildProgress& progress;

  const PairKernels& pairs() const noexcept { return *kernel.pairs; }
  bool has_users() const noexcept { return options.users != nullptr && options.users->rows > 0; }
  // Throws BELFRY_CLOSED when the watcher asked for an end.
  void check() const;
  void advance(uint64_t work) const noexcept { progress.done.fetch_add(work, std::memory_order_relaxed); }
  // body(first, end) over chunks of 0 .. rows, on all threads; adds `work_per_row` for each row.
  void for_rows(uint32_t rows, uint64_t work_per_row, const std::function<void(uint32_t, uint32_t)>& body) const;
};

// One row as f32.
void read_vector(const Context& context, const VectorSource& source, uint32_t row, float* to);

// 8-bit codes of rows for PairKernels: row-major, `stride` bytes a row, bytes c + 128, which is 128 behind dims.
struct CodedRows {
  CodedRows() = default;
  CodedRows(uint32_t row_count, uint32_t dims);

  uint8_t* row(uint32_t r) noexcept { return codes.data() + r * stride; }
  const uint8_t* row(uint32_t r) const noexcept { return codes.data() + r * stride; }
  // Codes one f32 row; false when it is not finite. `scale` and `norm` are those of the row as it is.
  bool encode(uint32_t r, const float* x, uint32_t dims) noexcept;
  // Makes it a unit vector; zero stays zero.
  void normalise(uint32_t r) noexcept;
  // Multiplies it.
  void resize(uint32_t r, double factor) noexcept;
  void copy(uint32_t r, const CodedRows& from, uint32_t from_row) noexcept;

  uint32_t rows = 0;
  uint32_t groups = 0;
  size_t stride = 0;
  AlignedBuffer<uint8_t> codes;
  AlignedBuffer<float> scale, norm;
  AlignedBuffer<int32_t> offset, squares;  // -128 * sum of codes, sum of their squares
};

// The metric in which two items are near when users score them alike: a lower triangular matrix L, dims x dims,
// row-major; items are multiplied by L^T before they are coded. Empty: the metric of the vectors themselves. See
// graph_metric.cpp.
std::vector<float> user_metric(const Context& context);

// Reads and codes all rows, in the order of the source. Throws BELFRY_BAD_VECTOR.
CodedRows encode_rows(const Context& context, const std::vector<float>& metric);
// Rows in another order: row i of the result is row order[i].
CodedRows reorder(const Context& context, const CodedRows& rows, const std::vector<uint32_t>& order);

// All rows of a small set as columns, to be compared with one row at a time.
class PackedRows {
 public:
  PackedRows(const Context& context, const CodedRows& rows);
  // Distances that `distances` writes: those of the rows, and of copies of the last one that fill its block.
  size_t padded() const noexcept { return scale_.size(); }
  void distances(const CodedRows& others, uint32_t row, float* out) const;

 private:
  const PairKernels& pairs_;
  uint32_t groups_;
  AlignedBuffer<int8_t> blocks_;
  AlignedBuffer<float> scale_, norm_;
  AlignedBuffer<int32_t> offset_;
};

// Rows grouped around centres (k-means), as in Graph. No partition has more than kPartitionRowsMax rows.
inline constexpr uint32_t kPartitionRowsMax = uint32_t{1} << 16;
struct Partitions {
  std::vector<uint32_t> order, starts, entries;
  CodedRows centres;
  uint32_t count() const noexcept { return static_cast<uint32_t>(entries.size()); }
};
uint32_t partition_count(uint32_t rows, const GraphBuildOptions& options);
Partitions partition_rows(const Context& context, const CodedRows& rows);

// A neighbour as one number: nearer first, equal distances (not below 0) by row.
inline uint64_t pack_neighbour(float distance, uint32_t row) noexcept {
  return uint64_t{std::bit_cast<uint32_t>(distance)} << 32 | row;
}
inline float neighbour_distance(uint64_t packed) noexcept {
  return std::bit_cast<float>(static_cast<uint32_t>(packed >> 32));
}
inline uint32_t neighbour_row(uint64_t packed) noexcept { return static_cast<uint32_t>(packed); }

// The nearest rows found so far of each row: unsorted, up to `capacity`, cut back to `keep` when full.
struct NeighbourLists {
  NeighbourLists() = default;
  NeighbourLists(uint32_t row_count, uint32_t kept);

  static uint32_t capacity_for(uint32_t kept) noexcept { return (kept + 32 + 15) / 16 * 16; }
  float* distances_of(uint32_t row) noexcept { return distances.data() + size_t{row} * capacity; }
  uint32_t* rows_of(uint32_t row) noexcept { return rows.data() + size_t{row} * capacity; }
  void offer(const PairKernels& pairs, uint32_t row, uint32_t other, float distance) {
    if (!(distance < limit[row])) return;
    const uint32_t at = size[row]++;
    distances_of(row)[at] = distance;
    rows_of(row)[at] = other;
    if (at + 1 == capacity) cut(pairs, row);
  }
  void cut(const PairKernels& pairs, uint32_t row) {
    if (size[row] < keep) return;
    limit[row] = pairs.cut(distances_of(row), rows_of(row), size[row], keep);
    size[row] = keep;
  }

  uint32_t keep = 0, capacity = 0;
  AlignedBuffer<float> distances;
  AlignedBuffer<uint32_t> rows;
  std::vector<uint32_t> size;
  std::vector<float> limit;  // only nearer rows are taken
};

// The partitions that each row is compared with, as lists of rows for each pair of partitions.
class Probes {
 public:
  Probes() = default;
  Probes(std::vector<uint32_t> partition_starts, uint32_t count);

  // Every row is compared with every other.
  bool empty() const noexcept { return count_ == 0; }
  // The rows of partition p that look into partition q, as numbers from the first row of p on, ascending.
  std::span<const uint16_t> rows(uint32_t p, uint32_t q) const noexcept {
    const uint32_t* starts = starts_.data() + size_t{p} * partition_starts_.size();
    return {members_.data() + size_t{partition_starts_[p]} * count_ + starts[q], starts[q + 1] - starts[q]};
  }
  // For partition p: the first of its members that look into each partition, and all its members.
  uint32_t* starts(uint32_t p) noexcept { return starts_.data() + size_t{p} * partition_starts_.size(); }
  uint16_t* members(uint32_t p) noexcept { return members_.data() + size_t{partition_starts_[p]} * count_; }

 private:
  uint32_t count_ = 0;
  std::vector<uint32_t> partition_starts_, starts_;
  AlignedBuffer<uint16_t> members_;
};

// Pairs of partitions, in the order in which a single thread would join them: nearest first.
struct JoinPlan {
  std::vector<std::pair<uint32_t, uint32_t>> tasks;
  Probes probes;
  uint64_t pairs = 0;
};
// How many partitions a row is compared with; all of them when that costs no more.
uint32_t probe_count(uint32_t rows, uint32_t partitions, const GraphBuildOptions& options);
JoinPlan plan_joins(const Context& context, const CodedRows& rows, const Partitions& partitions);
// Pairs of rows that joining two partitions compares.
uint64_t join_pairs(const JoinPlan& plan, const Partitions& partitions, uint32_t a, uint32_t b);
// Lists of the nearest rows, sorted by distance, then row.
NeighbourLists find_neighbours(const Context& context, const CodedRows& rows, const Partitions& partitions,
                               const JoinPlan& plan);

// Robust prune of the lists, reverse edges, and a second prune of both into `graph`.
void prune_lists(const Context& context, const CodedRows& rows, NeighbourLists& lists, Graph& graph);

// Links items that answer the same users.
void link_answers(const Context& context, const CodedRows& rows, Graph& graph);

// Links rows that no walk from the entries reaches.
void connect(const Context& context, Graph& graph);

// Pairs of rows that finding the users' answers compares.
uint64_t answer_work(const Context& context) noexcept;

inline constexpr uint64_t kPruneWorkPerRow = 10'000;  // pairs of the join that take about as long

}  // namespace belfry::graph_build
