#pragma once

// Distances between the rows of one set, for building a graph: plain data and function pointers, as in kernels.hpp.
//
// A row is coded as x = scale * c, c in -127..127, and kept as bytes c + 128. The squared distance of rows r and c is
//   max(0, ((float(dot) * scale[c]) * (-2 * scale[r]) + norm[c]) + norm[r]),   norm = |x|^2 of the coded row,
// each step rounded to f32, so that every level gives the same bits.

#include <cstddef>
#include <cstdint>

namespace belfry {

inline constexpr uint32_t kPairBlockRows = 16;  // rows whose codes are interleaved, as in CodeView
inline constexpr uint32_t kPairTileRows = 64;   // columns of a join
inline constexpr uint32_t kSelectMax = 512;     // candidates of one selection

// All rows with all columns of a tile. A pair is reported when it is nearer than the limit of its row or of its column.
struct JoinJob {
  uint32_t groups;        // ceil(dims / 4)
  const uint8_t* blocks;  // the columns: kPairTileRows / kPairBlockRows blocks of groups * 64 bytes
  uint64_t present;       // bit c: column c exists
  const float* column_scale;
  const float* column_norm;
  const float* column_limit;  // kPairTileRows readable values each
  const int8_t* rows;         // count rows of `stride` bytes: signed codes, zero behind dims
  size_t stride;              // at least groups * 4
  const int32_t* offset;      // -128 * sum of the row's signed codes
  const float* scale;
  const float* norm;
  const float* limit;
  uint32_t count;
  int64_t diagonal;  // row r meets column c only when c + diagonal > r
};

struct JoinHit {
  uint32_t row, column;
  float distance;  // not below 0
};

// Candidates of one row, nearest first, packed into blocks.
struct SelectJob {
  uint32_t groups;
  const uint8_t* blocks;
  const float* scale;  // per candidate, padded to whole blocks, 64-byte aligned; so are norm and distance
  const float* norm;
  const int32_t* offset;  // as in JoinJob
  const float* distance;  // to the row whose candidates they are; ascending
  uint32_t count;         // at most kSelectMax
  float alpha;
  uint32_t wanted;
  uint32_t* selected;  // out: positions of the chosen ones, ascending
};

struct PairKernels {
  // Interleaves rows into blocks of kPairBlockRows: codes of rows[i], or of row i when `rows` is null. The last block
  // repeats the last row.
  void (*pack)(const uint8_t* codes, size_t stride, uint32_t groups, const uint32_t* rows, uint32_t count,
               uint8_t* blocks);
  // Returns the number of hits, row by row, columns ascending; `hits` has room for count * kPairTileRows.
  uint32_t (*join)(const JoinJob& job, JoinHit* hits);
  // Squared distances of one row (bytes c + 128, `offset` as in JoinJob) to all rows of `blocks` blocks.
  void (*distances)(const uint8_t* row, int32_t offset, float scale, float norm, uint32_t groups,
                    const uint8_t* block_codes, const float* block_scale, const float* block_norm, uint32_t blocks,
                    float* out);
  // Robust prune (Vamana, NeurIPS 2019, on squared distances): takes the nearest candidate that is left and drops those
  // v with alpha * d(taken, v) <= d(row, v), until `wanted` are taken or none is left. Returns how many were taken.
  uint32_t (*select)(const SelectJob& job);
  // Keeps the `keep` smallest of `count` distances, equal ones by position; returns the largest that is kept. Arrays
  // are 64-byte aligned and padded to whole 16s.
  float (*cut)(float* distances, uint32_t* rows, uint32_t count, uint32_t keep);
};

}  // namespace belfry
