#pragma once

#include <cstdint>

#include "core/aligned_buffer.hpp"
#include "index/graph.hpp"
#include "kernels/walk_job.hpp"

namespace belfry {

// A graph ready to be walked: with a dense copy of the entries' codes, which every query scores first.
class WalkGraph {
 public:
  WalkGraph(Graph graph, const CodeRows& items);

  const Graph& graph() const noexcept { return graph_; }
  uint32_t partitions() const noexcept { return static_cast<uint32_t>(graph_.partition_starts.size() - 1); }
  size_t bytes() const noexcept { return graph_.neighbours.bytes() + codes_.bytes() + tails_.bytes(); }
  // The graph's side of a job.
  void fill(WalkJob& job) const noexcept;

 private:
  Graph graph_;
  AlignedBuffer<uint32_t> entries_;  // whole lanes
  AlignedBuffer<uint8_t> codes_;
  AlignedBuffer<float> tails_;  // scales, then biases, where the rows have no room for them
  CodeRows view_{};
};

// What one thread needs for one walk, kept between walks. The bitmap of visited rows is zero between walks.
class WalkScratch {
 public:
  // The calling thread's own, grown to what a graph of that size asks for.
  static WalkScratch& of_thread(uint32_t rows, uint32_t degree, uint32_t ef);

  void fill(WalkJob& job) noexcept;
  // Clears what the walk has written, so that a walk costs what it visits and not what there is.
  void clear(const WalkJob& job) noexcept;

 private:
  AlignedBuffer<float> keys_;
  AlignedBuffer<uint32_t> pool_, waves_[2], blocked_, touched_;
  AlignedBuffer<uint64_t> visited_;
};

}  // namespace belfry
