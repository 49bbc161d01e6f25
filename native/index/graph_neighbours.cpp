// The nearest rows of each row. Each row is compared with the rows of the partitions whose centres are nearest to it,
// for both sides at once; on few rows, every row with every other.

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <span>
#include <utility>

#include "core/thread_pool.hpp"
#include "index/graph_stages.hpp"
#include "index/graph_tasks.hpp"

namespace belfry::graph_build {

namespace {

constexpr uint32_t kJoinChunkRows = 192;  // rows whose signed codes stay in the L1 cache beside a tile

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

// One partition as columns for PairKernels::distances: its packed codes with aligned copies of what belongs to them.
class PackedColumns {
 public:
  PackedColumns(const CodedRows& rows, uint32_t begin, uint32_t size, const int8_t* blocks)
      : groups_(rows.groups), blocks_(blocks) {
    const size_t padded = (size_t{size} + kPairBlockRows - 1) / kPairBlockRows * kPairBlockRows;
    scale_ = AlignedBuffer<float>(padded);
    norm_ = AlignedBuffer<float>(padded);
    offset_ = AlignedBuffer<int32_t>(padded);
    std::copy_n(rows.scale.data() + begin, size, scale_.data());
    std::copy_n(rows.norm.data() + begin, size, norm_.data());
    std::copy_n(rows.offset.data() + begin, size, offset_.data());
  }
  size_t padded() const noexcept { return scale_.size(); }
  PairColumns view() const noexcept { return {groups_, blocks_, scale_.data(), norm_.data(), offset_.data()}; }

 private:
  uint32_t groups_;
  const int8_t* blocks_;
  AlignedBuffer<float> scale_, norm_;
  AlignedBuffer<int32_t> offset_;
};

// What one thread needs to join two partitions.
class Joiner {
 public:
  Joiner(const Context& context, const CodedRows& rows, const Partitions& partitions, const JoinPlan& plan,
         const PackedPartitions& packed, NeighbourLists& lists)
      : pairs_(context.pairs()),
        rows_(rows),
        partitions_(partitions),
        plan_(plan),
        packed_(packed),
        lists_(lists),
        codes_(kJoinChunkRows * rows.stride),
        hits_(size_t{kJoinChunkRows} * kPairTileRows),
        skipped_(rows.rows) {}

  void join(uint32_t a, uint32_t b) {
    if (a == b) return join_self(a);
    if (plan_.probes.empty()) return join_all(a, b);
    // Pairs that both sides ask for are met twice, and their second meeting is passed over.
    const std::span<const uint16_t> asking = plan_.probes.rows(a, b);
    const uint32_t first = partitions_.starts[a];
    join_some(first, asking, b);
    for (const uint16_t row : asking) skipped_[first + row] = true;
    join_some(partitions_.starts[b], plan_.probes.rows(b, a), a);
    for (const uint16_t row : asking) skipped_[first + row] = false;
  }

 private:
  // Rows of one call of the kernel: consecutive ones, or a copy of scattered ones.
  struct Rows {
    const uint8_t* codes;
    const float *scale, *norm, *limit;
    uint32_t first;
    const uint32_t* numbers;  // null: first, first + 1, ...
    uint32_t count;
    uint32_t number(uint32_t i) const { return numbers == nullptr ? first + i : numbers[i]; }
  };

  // The first task of a partition: its lists are empty. All distances of a row at once and one cut of them take less
  // time than offering them one by one, while limits are still wide.
  void join_self(uint32_t p) {
    const uint32_t begin = partitions_.starts[p], size = partitions_.starts[p + 1] - begin;
    const PackedColumns columns(rows_, begin, size, packed_.tile(p, 0));
    AlignedBuffer<float> distance(columns.padded());
    AlignedBuffer<uint32_t> number(columns.padded());
    for (uint32_t i = 0; i < size; ++i) {
      const uint32_t row = begin + i;
      pairs_.distances(rows_.row(row), rows_.scale[row], rows_.norm[row], columns.view(),
                       static_cast<uint32_t>(columns.padded() / kPairBlockRows), distance.data());
      std::iota(number.data(), number.data() + size, begin);
      // The row itself goes to the end, and out.
      std::swap(distance[i], distance[size - 1]);
      std::swap(number[i], number[size - 1]);
      uint32_t kept = size - 1;
      if (kept >= lists_.keep) {
        lists_.limit[row] = pairs_.cut(distance.data(), number.data(), kept, lists_.keep);
        kept = lists_.keep;
      }
      std::copy_n(distance.data(), kept, lists_.distances_of(row));
      std::copy_n(number.data(), kept, lists_.rows_of(row));
      lists_.size[row] = kept;
    }
  }

  void join_all(uint32_t a, uint32_t b) {
    for (uint32_t first = partitions_.starts[a]; first < partitions_.starts[a + 1]; first += kJoinChunkRows) {
      const uint32_t count = std::min(kJoinChunkRows, partitions_.starts[a + 1] - first);
      const Rows rows{rows_.row(first),
                      rows_.scale.data() + first,
                      rows_.norm.data() + first,
                      lists_.limit.data() + first,
                      first,
                      nullptr,
                      count};
      join_columns(rows, b);
    }
  }

  void join_some(uint32_t begin, std::span<const uint16_t> asking, uint32_t b) {
    for (size_t first = 0; first < asking.size(); first += kJoinChunkRows) {
      const auto count = static_cast<uint32_t>(std::min<size_t>(kJoinChunkRows, asking.size() - first));
      for (uint32_t i = 0; i < count; ++i) {
        const uint32_t row = begin + asking[first + i];
        std::memcpy(codes_.data() + i * rows_.stride, rows_.row(row), rows_.stride);
        scale_[i] = rows_.scale[row];
        norm_[i] = rows_.norm[row];
        limit_[i] = lists_.limit[row];
        numbers_[i] = row;
      }
      join_columns({codes_.data(), scale_, norm_, limit_, 0, numbers_, count}, b);
    }
  }

  void join_columns(const Rows& rows, uint32_t b) {
    const uint32_t begin = partitions_.starts[b], end = partitions_.starts[b + 1];
    for (uint32_t column = begin; column < end; column += kPairTileRows) {
      const uint32_t columns = std::min(kPairTileRows, end - column);
      join_tile(rows, column, columns, packed_.tile(b, (column - begin) / kPairTileRows));
    }
  }

  void join_tile(const Rows& rows, uint32_t column, uint32_t columns, const int8_t* blocks) {
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
    job.rows = rows.codes;
    job.stride = rows_.stride;
    job.scale = rows.scale;
    job.norm = rows.norm;
    job.limit = rows.limit;
    job.count = rows.count;
    const uint32_t found = pairs_.join(job, hits_.data());
    for (uint32_t i = 0; i < found; ++i) {
      const JoinHit& hit = hits_[i];
      const uint32_t left = rows.number(hit.row), right = column + hit.column;
      if (skipped_[right]) continue;
      lists_.offer(pairs_, left, right, hit.distance);
      lists_.offer(pairs_, right, left, hit.distance);
      if (rows.numbers != nullptr) limit_[hit.row] = lists_.limit[left];
    }
  }

  const PairKernels& pairs_;
  const CodedRows& rows_;
  const Partitions& partitions_;
  const JoinPlan& plan_;
  const PackedPartitions& packed_;
  NeighbourLists& lists_;
  AlignedBuffer<uint8_t> codes_;
  float scale_[kJoinChunkRows], norm_[kJoinChunkRows], limit_[kJoinChunkRows];
  uint32_t numbers_[kJoinChunkRows];
  std::vector<JoinHit> hits_;
  std::vector<bool> skipped_;
};

}  // namespace

NeighbourLists::NeighbourLists(uint32_t row_count, uint32_t kept)
    : keep(kept),
      capacity(capacity_for(kept)),
      distances(size_t{row_count} * capacity),
      rows(size_t{row_count} * capacity),
      size(row_count),
      limit(row_count, std::numeric_limits<float>::infinity()) {}

NeighbourLists find_neighbours(const Context& context, const CodedRows& rows, const Partitions& partitions,
                               const JoinPlan& plan) {
  NeighbourLists lists(rows.rows, context.options.candidates);
  const PackedPartitions packed(context, rows, partitions);
  OrderedTasks tasks(plan.tasks, partitions.count());
  ThreadPool::instance().parallel_for(context.options.threads, context.options.threads, [&](size_t) {
    Joiner joiner(context, rows, partitions, plan, packed, lists);
    tasks.work([&](uint32_t task) {
      context.check();
      const auto [a, b] = plan.tasks[task];
      joiner.join(a, b);
      context.advance(join_pairs(plan, partitions, a, b));
    });
  });
  context.for_rows(rows.rows, 0, [&](uint32_t first, uint32_t end) {
    std::vector<uint64_t> sorted;
    for (uint32_t row = first; row < end; ++row) {
      lists.cut(context.pairs(), row);
      float* distances = lists.distances_of(row);
      uint32_t* others = lists.rows_of(row);
      sorted.clear();
      for (uint32_t i = 0; i < lists.size[row]; ++i) sorted.push_back(pack_neighbour(distances[i], others[i]));
      std::sort(sorted.begin(), sorted.end());
      for (uint32_t i = 0; i < sorted.size(); ++i) {
        distances[i] = neighbour_distance(sorted[i]);
        others[i] = neighbour_row(sorted[i]);
      }
    }
  });
  return lists;
}

}  // namespace belfry::graph_build
