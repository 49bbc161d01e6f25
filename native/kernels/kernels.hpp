#pragma once

// The one interface that every kernel level implements. Plain structs and function pointers only: the level files are
// compiled with wider instruction sets, and a shared inline function with a body here could be kept by the linker in
// its AVX-512 copy and crash an older CPU.

#include <cstddef>
#include <cstdint>

#include "kernels/pair_job.hpp"

namespace belfry {

struct WalkJob;

inline constexpr uint32_t kBlockRows = 16;  // rows that a level interleaves
inline constexpr uint32_t kTileRows = 64;   // rows that a scan handles at once: one word of a RowFilter
// Bytes that must be readable behind query codes and behind ScanJob::tile: the AMX level loads whole 1 KiB tiles.
inline constexpr size_t kSlackBytes = 1024;

// 8-bit codes of all items, row by row, and what a graph walk needs of a row beside them. A code is
// round(x / scale) + 128, in 1..255. Behind the codes of a row stand bytes of no meaning to a dot product, because
// queries are zero there; when 4 fit, the last 4 of the row are its scale, and for l2 when 8 fit, the 4 before that are
// its bias, so that a walk finds both on lines that it loads anyway.
struct CodeRows {
  const uint8_t* codes;  // row r at codes + r * stride; on a 64-byte border
  size_t stride;         // dims rounded up to whole cache lines
  // The f32 scale of row r is at scale + r * scale_stride: inside the row where there is room, else in an array.
  const unsigned char* scale;
  size_t scale_stride;
  const unsigned char* bias;  // l2 only, else null
  size_t bias_stride;
  uint32_t dims;
};

// The codes with the arrays that a scan reads as vectors. Arrays and codes are padded to whole tiles with scale 0.
struct CodeView {
  CodeRows rows;
  const float* scale;
  const float* bias;   // l2 only: about -|x|^2, never below it
  const float* error;  // norm of what the code lost, rounded up
  const float* norm;   // norm of the row, rounded up
};

// 255 * 128 is below 2^15, so no sum of products with codes of 1..255 leaves 16 bits.
inline constexpr int32_t kWindowSumMax = 128;

// The survivors of one query. `keys` and `rows` hold capacity + kTileRows entries, so a whole tile always fits.
struct Candidates {
  float* keys;
  uint32_t* rows;
  uint32_t size;
  uint32_t capacity;
  // Called when size >= capacity; leaves size < capacity and returns the threshold to use from now on.
  float (*prune)(Candidates*);
  void* owner;  // for prune
};

// A scan of rows [row_begin, row_end), both multiples of kTileRows, for `count` queries. A row survives when its key is
// above the query's threshold and its bit in `allowed` is set (null: all rows; else one word per tile, from row_begin
// on). In this order, each step rounded to f32:
//   key = float(dot) * scale[row]
//   l2:     key = key * l2_scale[q] + bias[row] * l2_weight[q]
//   bounds: key = key + (error_weight[q] * error[row] + norm_weight[q] * norm[row])
// so that every level gives the same keys bit for bit.
struct ScanJob {
  CodeView items;
  uint32_t row_begin;
  uint32_t row_end;
  const uint64_t* allowed;
  uint32_t count;
  const int8_t*
      query_codes;         // count rows of items.rows.stride bytes, zero behind dims; zero rows up to a multiple of 32
  const int32_t* offsets;  // -128 * sum(codes): takes the items' +128 out again
  const float* l2_scale;
  const float* l2_weight;
  const float* error_weight;
  const float* norm_weight;
  float* thresholds;
  Candidates* lists;
  // Scratch of one tile: kTileRows * items.rows.stride + kSlackBytes bytes on a 64-byte border. A level that multiplies
  // several rows at once interleaves a tile here, once for all queries of the job.
  uint8_t* tile;
};

enum class ScanKind : uint32_t { kPlain, kL2, kPlainBound, kL2Bound };
inline constexpr uint32_t kScanKinds = 4;

enum class RowFormat : uint32_t { kF32, kF16 };
enum class RowScore : uint32_t { kIp, kCosine, kL2 };

// Scores of rows[0 .. count) of a row-major matrix, or of rows first .. first+count-1 when `rows` is null. Sums run in
// f64 in 16 lanes (lane = dim mod 16), folded 8, 4, 2, 1: the same order, so the same bits, on every level.
struct ScoreJob {
  const unsigned char* base;  // may be unaligned
  size_t row_bytes;
  RowFormat format;
  RowScore score;
  uint32_t dims;
  const float* query;
  double query_norm;  // cosine only
  const uint32_t* rows;
  uint32_t first;
  uint32_t count;
  double* out;
};

struct KernelTable {
  const char* name;
  // What the scans and `dots` ask of query codes, so that 16-bit sums suffice; 0: nothing. Dims are cut into windows of
  // this many groups of 4. In each window, once over the dims with d mod 4 in {0, 1} and once over the others, the
  // positive codes sum to kWindowSumMax at the most, and so do the negative ones.
  uint32_t query_window;
  void (*scan[kScanKinds])(const ScanJob&);
  // The raw integer sums of job.count queries with rows [row_begin, row_end): out[q * (row_end - row_begin) + row -
  // row_begin]. For tests, and for code that wants all scores.
  void (*dots)(const ScanJob&, int32_t* out);
  void (*score_rows)(const ScoreJob&);
  // Half to single precision; `from` may be unaligned.
  void (*widen_f16)(const unsigned char* from, float* to, size_t count);
  // One query's walk over a graph (walk_job.hpp): the same pool on every level.
  void (*walk)(WalkJob&);
  const PairKernels* pairs;
};

namespace kernels {
namespace portable {
const KernelTable& table();
}
namespace avx2 {
const KernelTable& table();
}
namespace avxvnni {
const KernelTable& table();
}
namespace avx512vnni {
const KernelTable& table();
}
namespace amx {
const KernelTable& table();
}
}  // namespace kernels

}  // namespace belfry
