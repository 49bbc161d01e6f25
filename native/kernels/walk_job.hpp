#pragma once

// One query's walk over a flat graph, as plain data. See walk_loop.hpp for what happens to it.

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.hpp"

namespace belfry {

inline constexpr uint32_t kLineBytes = 64;
inline constexpr uint32_t kWalkLanes = 16;             // rows scored at once; arrays are padded to whole lanes
inline constexpr uint32_t kExpandedBit = 0x80000000U;  // of a pool entry: its neighbours have been looked at
inline constexpr uint32_t kWalkSlack = 16;             // entries before and behind the pool that may be touched

struct WalkJob {
  CodeRows items;
  const uint32_t* neighbours;  // rows x degree, all ones behind the last
  uint32_t degree;
  CodeRows entry_codes;     // a dense copy of the entries' codes
  const uint32_t* entries;  // their rows; padded to whole lanes by repeating one
  uint32_t entry_count;     // a multiple of kWalkLanes
  const uint32_t* seeds;    // rows to start from besides the best entries; padded to whole lanes
  uint32_t seed_count;

  // The query: key = float(dot + offset) * scale[row], for L2 then key * l2_scale + bias[row] * l2_weight. The same
  // steps, each rounded to f32, as in a scan (ScanJob).
  const int8_t* query;  // items.stride bytes, zero behind dims
  int32_t offset;
  float l2_scale, l2_weight;

  // Effort: the pool holds the best `ef` rows met. The walk ends when all of them are expanded, or when the best one
  // that is not has key < stop_slope * key of entry stop_at + stop_shift (distance-adaptive stop, arXiv 2505.15636).
  uint32_t ef;
  uint32_t stop_at;
  float stop_slope, stop_shift;
  uint64_t scored_max;  // gives up when more rows have been scored

  // Filtered walk: only rows whose bit is set enter the pool (entries excepted), and the neighbours of those that are
  // not are looked at in their place, up to `hops` lists an expansion. Null: no filter.
  const uint64_t* allowed;
  uint32_t hops;
  uint32_t hop_width;  // slots of such a list that are looked at: the nearest ones
  uint32_t enough;     // new rows of an expansion after which no further list is opened, at most degree
  bool expand;         // false: only the seeds are scored

  // Scratch. Pool arrays have kWalkSlack entries before and ef + kWalkSlack behind their start, 64-byte aligned.
  float* keys;
  uint32_t* rows;
  uint32_t* waves[2];  // degree + kWalkLanes each
  uint32_t* blocked;   // degree
  uint64_t* visited;   // one bit a row, zero before and after
  uint32_t* touched;   // words of `visited` that were written, capacity `touched_max`; the caller clears them
  size_t touched_max;

  // Results: the pool, best first, kExpandedBit set on some; what it took.
  uint32_t found;
  size_t touched_count;
  uint64_t scored, expanded;
  bool gave_up;
};

}  // namespace belfry
