#pragma once

// Distances between the rows of one set, for building a graph: plain data and function pointers, as in kernels.hpp.
//
// A row is coded as x = scale * c, c in -127..127, and kept as bytes c + 128. The squared distance of row r and column
// c is
//   max(0, float(dot) * (scale[c] * (-2 * scale[r])) + (norm[c] + norm[r])),   norm = |x|^2 of the coded row,
// each step rounded to f32, so that every level gives the same bits, and so do r and c changed about.

#include <cstddef>
#include <cstdint>

namespace belfry {

inline constexpr uint32_t kPairBlockRows = 16;  // columns whose codes are interleaved
inline constexpr uint32_t kPairTileRows = 64;   // columns of a join
inline constexpr uint32_t kSelectMax = 512;     // candidates of one selection

// Packed rows that others are compared with. Arrays are padded to whole blocks and 64-byte aligned.
struct PairColumns {
  uint32_t groups;       // ceil(dims / 4)
  const int8_t* blocks;  // groups * 64 bytes for each kPairBlockRows columns, written by `pack`
  const float* scale;
  const float* norm;
  const int32_t* offset;  // -128 * sum of the column's codes: takes the other side's + 128 out again
};

// All rows with all columns of a tile. A pair is reported when it is nearer than the limit of its row or of its column.
struct JoinJob {
  PairColumns columns;        // kPairTileRows of them can be read
  const float* column_limit;  // like the arrays of `columns`
  uint64_t present;           // bit c: column c exists
  const uint8_t* rows;        // count rows of `stride` bytes c + 128, which is 128 behind dims
  size_t stride;              // at least groups * 4
  const float* scale;
  const float* norm;
  const float* limit;
  uint32_t count;
};

struct JoinHit {
  uint32_t row, column;
  float distance;  // not below 0
};

// Candidates of one row, nearest first.
struct SelectJob {
  PairColumns candidates;
  const float* distance;  // to the row whose candidates they are; ascending; like the arrays of `candidates`
  uint32_t count;         // at most kSelectMax
  float alpha;
  uint32_t wanted;
  uint32_t* selected;  // out: positions of the chosen ones, ascending
};

struct PairKernels {
  // Interleaves rows into blocks of kPairBlockRows, as signed codes: rows[i], or row i when `rows` is null. The last
  // block repeats the last row. The blocks are 64-byte aligned.
  void (*pack)(const uint8_t* codes, size_t stride, uint32_t groups, const uint32_t* rows, uint32_t count,
               int8_t* blocks);
  // Returns the number of hits, row by row, columns ascending; `hits` has room for count * kPairTileRows.
  uint32_t (*join)(const JoinJob& job, JoinHit* hits);
  // Squared distances of one row (bytes c + 128) to all columns of `blocks` blocks.
  void (*distances)(const uint8_t* row, float scale, float norm, const PairColumns& columns, uint32_t blocks,
                    float* out);
  // Chooses up to `wanted` candidates that do not stand in for each other. Of a candidate v counts how near the chosen
  // ones are that are nearer to the row than v. First all are chosen, nearest first, to which no such one is nearer
  // than the row (or as near): the relative neighbourhood graph, or robust prune (Vamana, NeurIPS 2019) with alpha 1.
  // Then, again and again, the one whose nearest such one is farthest, in parts of its own distance, while that part is
  // at least 1 / alpha: so alpha grows for each row by itself until its list is full. Returns how many were chosen.
  uint32_t (*select)(const SelectJob& job);
  // Keeps the `keep` smallest of `count` distances, equal ones by position; returns the largest that is kept. Arrays
  // are 64-byte aligned and padded to whole 16s.
  float (*cut)(float* distances, uint32_t* rows, uint32_t count, uint32_t keep);
};

}  // namespace belfry
