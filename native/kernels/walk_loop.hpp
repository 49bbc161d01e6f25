#pragma once

// The best-first walk over a flat graph, written once and compiled for each kernel level, so that the whole loop of a
// query runs in one set of instructions. All of it has internal linkage: each level keeps its own copy.
//
// Level provides, for 16 rows at once and the same bits on every level:
//   template <uint32_t kLines> above(job, rows, floor, keys)   keys of 16 rows; returns the mask of those above `floor`
//   allowed(job, list, count, out)   the rows of list[0 .. min(count, 16)) that the filter allows; returns how many
//   insert(keys, rows, size, last, key, row)                   puts a row into the sorted pool; returns its place
//
// The order of expansions is that of a best-first search with one step of lookahead: while the neighbours of one row
// are scored, the code lines of the next one's are on their way from memory. On GloVe that costs 5 % more scored rows
// and saves a third of the time (docs/decisions/0003-graph-walk.md).

#include <limits>

#include "kernels/walk_job.hpp"

namespace belfry {
namespace {

inline void walk_fetch(const void* line) { __builtin_prefetch(line, 0, 3); }

template <class Level, uint32_t kLines>
class Walk {
 public:
  explicit Walk(WalkJob& job) : job_(job), lines_(static_cast<uint32_t>(job.items.stride / kLineBytes)) {}

  void run() {
    job_.found = 0;
    job_.scored = job_.expanded = 0;
    job_.touched_count = 0;
    job_.gave_up = false;
    start();
    if (!job_.expand) {
      job_.found = size_;
      return;
    }
    uint32_t* now = job_.waves[0];
    uint32_t* next = job_.waves[1];
    uint32_t count = choose() ? expand(now) : 0;
    for (;;) {
      const bool ahead = choose();
      uint32_t ahead_count = ahead ? expand(next) : 0;
      score(now, count);
      if (!ahead) {
        if (!choose()) break;
        ahead_count = expand(next);
      }
      if (job_.scored > job_.scored_max) {
        job_.gave_up = true;
        break;
      }
      uint32_t* swapped = now;
      now = next;
      next = swapped;
      count = ahead_count;
    }
    job_.found = size_;
  }

 private:
  void start() {
    for (uint32_t i = 0; i < job_.ef + kWalkSlack; ++i) job_.keys[i] = -std::numeric_limits<float>::infinity();
    // The best entry of each lane, then the best two of these.
    alignas(64) float keys[kWalkLanes];
    float best[kWalkLanes];
    uint32_t place[kWalkLanes];
    uint32_t identity[kWalkLanes];
    for (uint32_t lane = 0; lane < kWalkLanes; ++lane) best[lane] = -std::numeric_limits<float>::infinity();
    for (uint32_t first = 0; first < job_.entry_count; first += kWalkLanes) {
      for (uint32_t lane = 0; lane < kWalkLanes; ++lane) identity[lane] = first + lane;
      (void)Level::template above<kLines>(job_, job_.entry_codes, identity, worst_, keys);
      for (uint32_t lane = 0; lane < kWalkLanes; ++lane) {
        const bool better = keys[lane] > best[lane];
        best[lane] = better ? keys[lane] : best[lane];
        place[lane] = better ? first + lane : place[lane];
      }
    }
    for (uint32_t round = 0; round < 2 && job_.entry_count > 0; ++round) {
      uint32_t winner = 0;
      for (uint32_t lane = 1; lane < kWalkLanes; ++lane) {
        if (best[lane] > best[winner]) winner = lane;
      }
      if (best[winner] == -std::numeric_limits<float>::infinity()) break;
      const uint32_t row = job_.entries[place[winner]];
      if (visit(row)) {
        log(row);
        admit(row, best[winner]);
      }
      best[winner] = -std::numeric_limits<float>::infinity();
    }
    uint32_t* wave = job_.waves[0];
    uint32_t count = 0;
    for (uint32_t i = 0; i < job_.seed_count; ++i) {
      if (!visit(job_.seeds[i])) continue;
      wave[count++] = job_.seeds[i];
      if (count == job_.degree || i + 1 == job_.seed_count) {
        announce(wave, count);
        score(wave, count);
        count = 0;
      }
    }
    if (count > 0) {
      announce(wave, count);
      score(wave, count);
    }
  }

  // The best row that is not expanded, at cursor_; false when there is none worth it.
  bool choose() {
    while (cursor_ < size_ && (job_.rows[cursor_] & kExpandedBit) != 0) ++cursor_;
    if (cursor_ >= size_) return false;
    return size_ <= job_.stop_at || !(job_.keys[cursor_] < job_.stop_slope * job_.keys[job_.stop_at] + job_.stop_shift);
  }

  // Marks a row as visited; true when it was not.
  bool visit(uint32_t row) {
    uint64_t& word = job_.visited[row >> 6];
    const uint64_t bit = uint64_t{1} << (row & 63);
    const bool fresh = (word & bit) == 0;
    word |= bit;
    return fresh;
  }
  bool allowed(uint32_t row) const { return ((job_.allowed[row >> 6] >> (row & 63)) & 1) != 0; }
  void log(uint32_t row) {
    if (job_.touched_count < job_.touched_max) job_.touched[job_.touched_count] = row >> 6;
    ++job_.touched_count;
  }

  // Collects the neighbours of the row at cursor_ that are new, and sends for their codes.
  uint32_t expand(uint32_t* wave) {
    const uint32_t row = job_.rows[cursor_];
    job_.rows[cursor_] = row | kExpandedBit;
    ++job_.expanded;
    const uint32_t* list = job_.neighbours + size_t{row} * job_.degree;
    const uint32_t count = job_.allowed == nullptr ? collect(list, wave) : collect_allowed(list, wave);
    announce(wave, count);
    return count;
  }

  uint32_t collect(const uint32_t* list, uint32_t* wave) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < job_.degree && list[i] != ~0U; ++i) {
      const uint32_t row = list[i];
      wave[count] = row;  // without a branch: half of the rows are new, in no pattern
      count += visit(row) ? 1 : 0;
    }
    return count;
  }

  uint32_t collect_allowed(const uint32_t* list, uint32_t* wave) {
    uint32_t count = 0, blocked = 0;
    for (uint32_t i = 0; i < job_.degree && list[i] != ~0U; ++i) {
      const uint32_t row = list[i];
      const bool fresh = visit(row), wanted = allowed(row);
      wave[count] = row;
      job_.blocked[blocked] = row;
      count += fresh && wanted ? 1 : 0;
      blocked += fresh && !wanted ? 1 : 0;
    }
    for (uint32_t i = 0; i < blocked; ++i) log(job_.blocked[i]);
    const uint32_t hops = blocked < job_.hops ? blocked : job_.hops;
    for (uint32_t i = 0; i < hops; ++i) fetch_list(job_.blocked[i], job_.hop_width);
    for (uint32_t i = 0; i < hops && count < job_.enough; ++i) {
      const uint32_t* further = job_.neighbours + size_t{job_.blocked[i]} * job_.degree;
      uint32_t passed[kWalkLanes];
      for (uint32_t j = 0; j < job_.hop_width && count < job_.enough; j += kWalkLanes) {
        const uint32_t found = Level::allowed(job_, further + j, job_.hop_width - j, passed);
        for (uint32_t p = 0; p < found; ++p) {
          wave[count] = passed[p];
          count += visit(passed[p]) ? 1 : 0;
        }
      }
    }
    return count;
  }

  // Logs a wave, pads it to whole lanes, and fetches its code lines.
  void announce(uint32_t* wave, uint32_t count) {
    constexpr uint32_t kLinesAhead = 8;  // the hardware follows longer rows
    const uint32_t lines = lines_ < kLinesAhead ? lines_ : kLinesAhead;
    for (uint32_t i = 0; i < count; ++i) {
      log(wave[i]);
      const uint8_t* codes = job_.items.codes + wave[i] * job_.items.stride;
      for (uint32_t line = 0; line < (kLines != 0 ? kLines : lines); ++line) walk_fetch(codes + line * kLineBytes);
      if (job_.items.scale_stride < kLineBytes) walk_fetch(job_.items.scale + wave[i] * job_.items.scale_stride);
      if (job_.items.bias_stride != 0 && job_.items.bias_stride < kLineBytes)
        walk_fetch(job_.items.bias + wave[i] * job_.items.bias_stride);
    }
    for (uint32_t i = count; i % kWalkLanes != 0; ++i) wave[i] = wave[count - 1];
  }

  void score(const uint32_t* wave, uint32_t count) {
    job_.scored += count;
    alignas(64) float keys[kWalkLanes];
    for (uint32_t first = 0; first < count; first += kWalkLanes) {
      uint32_t mask = Level::template above<kLines>(job_, job_.items, wave + first, worst_, keys);
      if (count - first < kWalkLanes) mask &= (1U << (count - first)) - 1;
      for (; mask != 0; mask &= mask - 1) {
        const auto lane = static_cast<uint32_t>(__builtin_ctz(mask));
        if (keys[lane] > worst_) admit(wave[first + lane], keys[lane]);
      }
    }
  }

  void fetch_list(uint32_t row, uint32_t width) const {
    const uint32_t* list = job_.neighbours + size_t{row} * job_.degree;
    for (uint32_t i = 0; i < width; i += kLineBytes / 4) walk_fetch(list + i);
  }

  void admit(uint32_t row, float key) {
    const uint32_t last = size_ == job_.ef ? size_ - 1 : size_;
    const uint32_t place = Level::insert(job_.keys, job_.rows, size_, last, key, row);
    job_.keys[job_.ef] = -std::numeric_limits<float>::infinity();  // what fell off the end
    if (size_ < job_.ef) ++size_;
    if (place < cursor_) cursor_ = place;
    if (size_ == job_.ef) worst_ = job_.keys[job_.ef - 1];
    fetch_list(row, job_.degree);  // it may well be the next to be expanded
  }

  WalkJob& job_;
  uint32_t lines_;
  uint32_t size_ = 0, cursor_ = 0;
  float worst_ = -std::numeric_limits<float>::infinity();
};

template <class Level>
void walk_graph(WalkJob& job) {
  switch (job.items.stride / kLineBytes) {
    case 1: return Walk<Level, 1>(job).run();
    case 2: return Walk<Level, 2>(job).run();
    case 3: return Walk<Level, 3>(job).run();
    case 4: return Walk<Level, 4>(job).run();
    default: return Walk<Level, 0>(job).run();
  }
}

}  // namespace
}  // namespace belfry
