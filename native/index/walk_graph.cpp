#include "index/walk_graph.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace belfry {

namespace {

constexpr size_t kTouchedMax = size_t{1} << 16;  // words of the bitmap that are cleared one by one

template <class T>
void grow(AlignedBuffer<T>& buffer, size_t count) {
  if (buffer.size() < count) buffer = AlignedBuffer<T>(count);
}

}  // namespace

WalkGraph::WalkGraph(Graph graph, const CodeRows& items) : graph_(std::move(graph)) {
  const size_t count = (graph_.entries.size() + kWalkLanes - 1) / kWalkLanes * kWalkLanes;
  entries_ = AlignedBuffer<uint32_t>(count);
  codes_ = AlignedBuffer<uint8_t>(count * items.stride);
  const bool scale_inside = items.scale_stride >= kLineBytes, bias_inside = items.bias_stride >= kLineBytes;
  tails_ = AlignedBuffer<float>(2 * count);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t row = graph_.entries[std::min(i, graph_.entries.size() - 1)];
    entries_[i] = row;
    std::memcpy(codes_.data() + i * items.stride, items.codes + row * items.stride, items.stride);
    std::memcpy(&tails_[i], items.scale + row * items.scale_stride, sizeof(float));
    if (items.bias != nullptr) std::memcpy(&tails_[count + i], items.bias + row * items.bias_stride, sizeof(float));
  }
  const auto* codes = reinterpret_cast<const unsigned char*>(codes_.data());
  const auto* tails = reinterpret_cast<const unsigned char*>(tails_.data());
  view_ = items;
  view_.codes = codes_.data();
  view_.scale = scale_inside ? codes + (items.scale - reinterpret_cast<const unsigned char*>(items.codes)) : tails;
  if (items.bias != nullptr) {
    view_.bias = bias_inside ? codes + (items.bias - reinterpret_cast<const unsigned char*>(items.codes))
                             : tails + count * sizeof(float);
  }
}

void WalkGraph::fill(WalkJob& job) const noexcept {
  job.neighbours = graph_.neighbours.data();
  job.degree = graph_.degree;
  job.entry_codes = view_;
  job.entries = entries_.data();
  job.entry_count = static_cast<uint32_t>(entries_.size());
}

WalkScratch& WalkScratch::of_thread(uint32_t rows, uint32_t degree, uint32_t ef) {
  thread_local WalkScratch scratch;
  grow(scratch.keys_, size_t{ef} + 2 * kWalkSlack + kWalkLanes);
  grow(scratch.pool_, size_t{ef} + 2 * kWalkSlack + kWalkLanes);
  for (AlignedBuffer<uint32_t>& wave : scratch.waves_) grow(wave, size_t{degree} + 2 * kWalkLanes);
  grow(scratch.blocked_, size_t{degree} + kWalkLanes);
  grow(scratch.touched_, kTouchedMax);
  grow(scratch.visited_, (size_t{rows} + 63) / 64);
  return scratch;
}

void WalkScratch::fill(WalkJob& job) noexcept {
  job.keys = keys_.data() + kWalkSlack;
  job.rows = pool_.data() + kWalkSlack;
  job.waves[0] = waves_[0].data();
  job.waves[1] = waves_[1].data();
  job.blocked = blocked_.data();
  job.visited = visited_.data();
  job.touched = touched_.data();
  job.touched_max = kTouchedMax;
}

void WalkScratch::clear(const WalkJob& job) noexcept {
  if (job.touched_count > job.touched_max) {
    std::memset(visited_.data(), 0, visited_.bytes());
    return;
  }
  for (size_t i = 0; i < job.touched_count; ++i) visited_[touched_[i]] = 0;
}

}  // namespace belfry
