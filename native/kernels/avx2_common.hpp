#pragma once

// What the two levels with 256-bit registers share: tiles of codes, the scan around their dot products, and row scores.
// All of it has internal linkage, so that each level keeps its own copy.
//
// A level brings `Dots`:
//   kGroupQueries             queries whose sums with a tile it forms at once
//   tile<n>(job, q, out)      sums of the 64 rows of job.tile with queries q .. q + n - 1, offsets included
//   step(sum, x, q)           sum + the products of 32 item codes and 32 query codes, four by four

#include <immintrin.h>

#include <cstdint>

#include "kernels/kernels.hpp"
#include "kernels/portable_scan.hpp"
#include "kernels/unroll.hpp"

namespace belfry {
namespace {

constexpr uint32_t kTileQueriesMin = 4;              // fewer do not repay the interleaving of a tile
constexpr size_t kFetchBytesMax = size_t{16} << 10;  // a third of a 48 KiB L1 cache

inline __m256i load(const void* from) { return _mm256_load_si256(static_cast<const __m256i*>(from)); }
inline void store(void* to, __m256i x) { _mm256_store_si256(static_cast<__m256i*>(to), x); }

// The codes of one group of 4 dims, once for each row.
inline __m256i broadcast4(const int8_t* from) {
  int32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  return _mm256_set1_epi32(four);
}

// 16 bytes of rows r and r + 4, one row a lane.
inline __m256i column_of_two(const uint8_t* from, size_t stride) {
  const __m256i low = _mm256_castsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
  return _mm256_inserti128_si256(low, _mm_load_si128(reinterpret_cast<const __m128i*>(from + 4 * stride)), 1);
}

inline size_t tile_block_bytes(const ScanJob& job) { return size_t{(job.items.rows.dims + 3) / 4} * 64; }

// Interleaves the 64 rows from `row` into job.tile. Block b holds rows 16b .. 16b+15; in it, group g holds dims 4g ..
// 4g+3 of the 16 rows, 4 bytes a row. Groups are written four at a time, so up to three too many: the next block
// overwrites them, or they fall into the slack.
[[gnu::noinline]] void fill_tile(const ScanJob& job, uint32_t row) {
  const size_t stride = job.items.rows.stride;
  const size_t block_bytes = tile_block_bytes(job);
  for (uint32_t b = 0; b < kTileRows / kBlockRows; ++b) {
    for (uint32_t half = 0; half < 2; ++half) {
      const uint8_t* from = job.items.rows.codes + (size_t{row} + b * kBlockRows + 8 * half) * stride;
      uint8_t* to = job.tile + b * block_bytes;
      for (uint8_t* const end = to + block_bytes; to < end; from += 16, to += 256) {
        const __m256i r0 = column_of_two(from, stride), r1 = column_of_two(from + stride, stride);
        const __m256i r2 = column_of_two(from + 2 * stride, stride), r3 = column_of_two(from + 3 * stride, stride);
        const __m256i low01 = _mm256_unpacklo_epi32(r0, r1), high01 = _mm256_unpackhi_epi32(r0, r1);
        const __m256i low23 = _mm256_unpacklo_epi32(r2, r3), high23 = _mm256_unpackhi_epi32(r2, r3);
        __m256i* out = reinterpret_cast<__m256i*>(to) + half;
        _mm256_store_si256(out, _mm256_unpacklo_epi64(low01, low23));
        _mm256_store_si256(out + 2, _mm256_unpackhi_epi64(low01, low23));
        _mm256_store_si256(out + 4, _mm256_unpacklo_epi64(high01, high23));
        _mm256_store_si256(out + 6, _mm256_unpackhi_epi64(high01, high23));
      }
    }
  }
}

// Keys of 8 rows from their integer sums.
template <bool kL2, bool kBound>
[[gnu::always_inline]] inline __m256 keys_of(const ScanJob& job, uint32_t q, uint32_t row, __m256i sums) {
  __m256 key = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_load_ps(job.items.scale + row));
  if constexpr (kL2) {
    key = _mm256_mul_ps(key, _mm256_set1_ps(job.l2_scale[q]));
    key = _mm256_add_ps(key, _mm256_mul_ps(_mm256_load_ps(job.items.bias + row), _mm256_set1_ps(job.l2_weight[q])));
  }
  if constexpr (kBound) {
    const __m256 error = _mm256_mul_ps(_mm256_set1_ps(job.error_weight[q]), _mm256_load_ps(job.items.error + row));
    const __m256 norm = _mm256_mul_ps(_mm256_set1_ps(job.norm_weight[q]), _mm256_load_ps(job.items.norm + row));
    key = _mm256_add_ps(key, _mm256_add_ps(error, norm));
  }
  return key;
}

// Survivors are rare, so this stays out of the hot loop.
[[gnu::noinline]] void append(const ScanJob& job, uint32_t q, uint32_t row, uint64_t allowed,
                              const float (&keys)[kTileRows]) {
  Candidates& list = job.lists[q];
  const __m256 threshold = _mm256_set1_ps(job.thresholds[q]);
  for (uint32_t i = 0; i < kTileRows; i += 8) {
    const __m256 above = _mm256_cmp_ps(_mm256_load_ps(keys + i), threshold, _CMP_GT_OQ);
    uint32_t mask = static_cast<uint32_t>(_mm256_movemask_ps(above)) & static_cast<uint32_t>(allowed >> i);
    for (; mask != 0; mask &= mask - 1) {
      const uint32_t r = i + static_cast<uint32_t>(__builtin_ctz(mask));
      list.keys[list.size] = keys[r];
      list.rows[list.size++] = row + r;
    }
  }
  prune_if_full(job, q);
}

template <bool kL2, bool kBound>
[[gnu::always_inline]] inline void admit_tile(const ScanJob& job, uint32_t q, uint32_t row, uint64_t allowed,
                                              const int32_t (&sums)[kTileRows]) {
  __m256 keys[8];
  unroll<8>([&](auto i) BELFRY_INLINE_BODY {
    keys[i.value] = keys_of<kL2, kBound>(job, q, row + 8 * i.value, load(sums + 8 * i.value));
  });
  const __m256 a = _mm256_max_ps(_mm256_max_ps(keys[0], keys[1]), _mm256_max_ps(keys[2], keys[3]));
  const __m256 b = _mm256_max_ps(_mm256_max_ps(keys[4], keys[5]), _mm256_max_ps(keys[6], keys[7]));
  // Nearly every tile fails this one comparison.
  const __m256 above = _mm256_cmp_ps(_mm256_max_ps(a, b), _mm256_set1_ps(job.thresholds[q]), _CMP_GT_OQ);
  if (__builtin_expect(_mm256_movemask_ps(above) == 0, 1)) return;
  alignas(32) float all[kTileRows];
  unroll<8>([&](auto i) BELFRY_INLINE_BODY { _mm256_store_ps(all + 8 * i.value, keys[i.value]); });
  append(job, q, row, allowed, all);
}

// The totals of 8 vectors, lane r that of x[r].
inline __m256i totals(const __m256i (&x)[8]) {
  const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(x[0], x[1]), _mm256_hadd_epi32(x[2], x[3]));
  const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(x[4], x[5]), _mm256_hadd_epi32(x[6], x[7]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

// Sums of one query with 8 rows that follow each other: straight from the rows, so that each is read once.
template <class Dots>
[[gnu::always_inline]] inline __m256i row_dots(const uint8_t* rows, size_t stride, const int8_t* query) {
  __m256i sums[8];
  unroll<8>([&](auto r) BELFRY_INLINE_BODY { sums[r.value] = _mm256_setzero_si256(); });
  for (size_t byte = 0; byte < stride; byte += 32) {
    const __m256i q = load(query + byte);
    unroll<8>([&](auto r) BELFRY_INLINE_BODY {
      sums[r.value] = Dots::step(sums[r.value], load(rows + r.value * stride + byte), q);
    });
  }
  return totals(sums);
}

// A few queries pass over the rows themselves, one after the other.
template <class Dots, bool kL2, bool kBound>
inline void scan_rows(const ScanJob& job, uint32_t row, uint64_t allowed) {
  const size_t stride = job.items.rows.stride;
  alignas(32) int32_t sums[kTileRows];
  for (uint32_t q = 0; q < job.count; ++q) {
    const __m256i offset = _mm256_set1_epi32(job.offsets[q]);
    for (uint32_t r = 0; r < kTileRows; r += 8) {
      const uint8_t* rows = job.items.rows.codes + (size_t{row} + r) * stride;
      store(sums + r, _mm256_add_epi32(row_dots<Dots>(rows, stride, job.query_codes + q * stride), offset));
    }
    admit_tile<kL2, kBound>(job, q, row, allowed, sums);
  }
}

template <class Dots, bool kL2, bool kBound, uint32_t kQueries>
inline void scan_tile(const ScanJob& job, uint32_t q, uint32_t row, uint64_t allowed) {
  alignas(32) int32_t sums[kQueries][kTileRows];
  Dots::template tile<kQueries>(job, q, sums);
  for (uint32_t r = 0; r < kQueries; ++r) admit_tile<kL2, kBound>(job, q + r, row, allowed, sums[r]);
}

// The next tile's lines arrive while this one is used.
inline void fetch_tile(const ScanJob& job, uint32_t row) {
  const size_t stride = job.items.rows.stride;
  const uint8_t* tile = job.items.rows.codes + row * stride;
  const size_t bytes = kTileRows * stride < kFetchBytesMax ? kTileRows * stride : kFetchBytesMax;
  for (size_t byte = 0; byte < bytes; byte += 64) _mm_prefetch(tile + byte, _MM_HINT_T0);
}

template <class Dots, bool kL2, bool kBound>
void scan(const ScanJob& job) {
  constexpr uint32_t kGroup = Dots::kGroupQueries;
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    const uint64_t allowed = job.allowed == nullptr ? ~uint64_t{0} : job.allowed[(row - job.row_begin) / kTileRows];
    if (allowed == 0) continue;
    if (row + kTileRows < job.row_end) fetch_tile(job, row + kTileRows);
    if (job.count < kTileQueriesMin) {
      scan_rows<Dots, kL2, kBound>(job, row, allowed);
      continue;
    }
    fill_tile(job, row);
    uint32_t q = 0;
    for (; q + kGroup <= job.count; q += kGroup) scan_tile<Dots, kL2, kBound, kGroup>(job, q, row, allowed);
    for (; q < job.count; ++q) scan_tile<Dots, kL2, kBound, 1>(job, q, row, allowed);
  }
}

template <class Dots>
void dots(const ScanJob& job, int32_t* out) {
  const uint32_t rows = job.row_end - job.row_begin;
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    fill_tile(job, row);
    for (uint32_t q = 0; q < job.count; ++q) {
      alignas(32) int32_t sums[1][kTileRows];
      Dots::template tile<1>(job, q, sums);
      __builtin_memcpy(out + size_t{q} * rows + (row - job.row_begin), sums, sizeof sums);
    }
  }
}

void widen_f16(const unsigned char* from, float* to, size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i))));
  }
  if (i < count) {
    alignas(16) unsigned char half[16] = {};
    alignas(32) float wide[8];
    __builtin_memcpy(half, from + 2 * i, 2 * (count - i));
    _mm256_store_ps(wide, _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(half))));
    __builtin_memcpy(to + i, wide, 4 * (count - i));
  }
}

inline double fold(const __m256d (&lanes)[4]) {
  const __m256d low = _mm256_add_pd(lanes[0], lanes[2]), high = _mm256_add_pd(lanes[1], lanes[3]);
  const __m256d four = _mm256_add_pd(low, high);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

template <RowScore kScore>
inline void accumulate(const float* q, const float* x, __m256d (&lanes)[4], __m256d (&squares)[4]) {
  for (int i = 0; i < 4; ++i) {
    const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(q + 4 * i)), b = _mm256_cvtps_pd(_mm_loadu_ps(x + 4 * i));
    if constexpr (kScore == RowScore::kL2) {
      // Not fused: the square of a difference is not exact in f64, so fusing would change the bits.
      const __m256d d = _mm256_sub_pd(a, b);
      lanes[i] = _mm256_add_pd(lanes[i], _mm256_mul_pd(d, d));
    } else {
      lanes[i] = _mm256_fmadd_pd(a, b, lanes[i]);  // the product is exact, so fused and unfused agree
      if constexpr (kScore == RowScore::kCosine) squares[i] = _mm256_fmadd_pd(b, b, squares[i]);
    }
  }
}

template <RowScore kScore>
inline double score_row(const ScoreJob& job, const float* row) {
  __m256d lanes[4], squares[4];
  for (int i = 0; i < 4; ++i) lanes[i] = squares[i] = _mm256_setzero_pd();
  uint32_t i = 0;
  for (; i + 16 <= job.dims; i += 16) accumulate<kScore>(job.query + i, row + i, lanes, squares);
  if (i < job.dims) {
    alignas(32) float q[16] = {}, x[16] = {};
    __builtin_memcpy(q, job.query + i, 4 * (job.dims - i));
    __builtin_memcpy(x, row + i, 4 * (job.dims - i));
    accumulate<kScore>(q, x, lanes, squares);
  }
  return finish_score(job, fold(lanes), kScore == RowScore::kCosine ? fold(squares) : 0.0);
}

template <RowScore kScore>
inline void score_list(const ScoreJob& job) {
  float buffer[4096];  // kDimsMax
  for (uint32_t i = 0; i < job.count; ++i) {
    const size_t row = job.rows == nullptr ? size_t{job.first} + i : job.rows[i];
    const unsigned char* from = job.base + row * job.row_bytes;
    if (job.rows != nullptr && i + 4 < job.count) {
      const unsigned char* next = job.base + size_t{job.rows[i + 4]} * job.row_bytes;
      for (size_t byte = 0; byte < job.row_bytes; byte += 64) _mm_prefetch(next + byte, _MM_HINT_T0);
    }
    if (job.format == RowFormat::kF16) {
      widen_f16(from, buffer, job.dims);
    } else {
      __builtin_memcpy(buffer, from, size_t{job.dims} * 4);
    }
    job.out[i] = score_row<kScore>(job, buffer);
  }
}

void score_rows(const ScoreJob& job) {
  switch (job.score) {
    case RowScore::kIp: return score_list<RowScore::kIp>(job);
    case RowScore::kCosine: return score_list<RowScore::kCosine>(job);
    case RowScore::kL2: return score_list<RowScore::kL2>(job);
  }
}

}  // namespace
}  // namespace belfry
