#pragma once

// What the two AVX-512 levels share: tiles of codes, keys and survivors of 64 rows at once, and row scores. All of it
// has internal linkage, so that each level keeps its own copy.

#include <immintrin.h>

#include <cstdint>

#include "kernels/kernels.hpp"
#include "kernels/portable_scan.hpp"
#include "kernels/unroll.hpp"

namespace belfry {
namespace {

// 16 bytes of rows r, r + 4, r + 8, r + 12, one row a lane.
inline __m512i column_of_four(const uint8_t* from, size_t stride) {
  const auto bytes = [&](uint32_t row) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(from + row * stride));
  };
  __m512i rows = _mm512_castsi128_si512(bytes(0));
  rows = _mm512_inserti32x4(rows, bytes(4), 1);
  rows = _mm512_inserti32x4(rows, bytes(8), 2);
  return _mm512_inserti32x4(rows, bytes(12), 3);
}

inline size_t tile_block_bytes(const ScanJob& job) { return size_t{(job.items.rows.dims + 3) / 4} * 64; }

// Interleaves the 64 rows from `row` into job.tile. Block b holds rows 16b .. 16b+15; in it, group g holds dims 4g ..
// 4g+3 of the 16 rows, 4 bytes a row: the operand of vpdpbusd and a B tile of tdpbsud. Groups are written four at a
// time, so up to three too many: the next block overwrites them, or they fall into the slack.
[[gnu::noinline]] void fill_tile(const ScanJob& job, uint32_t row) {
  const size_t stride = job.items.rows.stride;
  const size_t block_bytes = tile_block_bytes(job);
  for (uint32_t b = 0; b < kTileRows / kBlockRows; ++b) {
    const uint8_t* from = job.items.rows.codes + (size_t{row} + b * kBlockRows) * stride;
    uint8_t* to = job.tile + b * block_bytes;
    for (uint8_t* const end = to + block_bytes; to < end; from += 16, to += 256) {
      const __m512i r0 = column_of_four(from, stride), r1 = column_of_four(from + stride, stride);
      const __m512i r2 = column_of_four(from + 2 * stride, stride), r3 = column_of_four(from + 3 * stride, stride);
      const __m512i low01 = _mm512_unpacklo_epi32(r0, r1), high01 = _mm512_unpackhi_epi32(r0, r1);
      const __m512i low23 = _mm512_unpacklo_epi32(r2, r3), high23 = _mm512_unpackhi_epi32(r2, r3);
      _mm512_store_si512(to, _mm512_unpacklo_epi64(low01, low23));
      _mm512_store_si512(to + 64, _mm512_unpackhi_epi64(low01, low23));
      _mm512_store_si512(to + 128, _mm512_unpacklo_epi64(high01, high23));
      _mm512_store_si512(to + 192, _mm512_unpackhi_epi64(high01, high23));
    }
  }
}

// Keys of 16 rows from their integer sums.
template <bool kL2, bool kBound>
[[gnu::always_inline]] inline __m512 keys_of(const ScanJob& job, uint32_t q, uint32_t row, __m512i sums) {
  __m512 key = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_load_ps(job.items.scale + row));
  if constexpr (kL2) {
    key = _mm512_mul_ps(key, _mm512_set1_ps(job.l2_scale[q]));
    key = _mm512_add_ps(key, _mm512_mul_ps(_mm512_load_ps(job.items.bias + row), _mm512_set1_ps(job.l2_weight[q])));
  }
  if constexpr (kBound) {
    const __m512 error = _mm512_mul_ps(_mm512_set1_ps(job.error_weight[q]), _mm512_load_ps(job.items.error + row));
    const __m512 norm = _mm512_mul_ps(_mm512_set1_ps(job.norm_weight[q]), _mm512_load_ps(job.items.norm + row));
    key = _mm512_add_ps(key, _mm512_add_ps(error, norm));
  }
  return key;
}

// Survivors are rare, so this stays out of the hot loop. A compress to a register and a full store is much faster than
// a compressing store on some CPUs; the slack behind the lists takes the rest of the vector.
[[gnu::noinline]] void append(const ScanJob& job, uint32_t q, uint32_t row, uint64_t allowed, __m512 threshold,
                              const __m512 (&keys)[4]) {
  Candidates& list = job.lists[q];
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (uint32_t b = 0; b < 4; ++b) {
    const __mmask16 part =
        _mm512_mask_cmp_ps_mask(static_cast<__mmask16>(allowed >> (16 * b)), keys[b], threshold, _CMP_GT_OQ);
    if (part == 0) continue;
    const __m512i rows = _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int32_t>(row + 16 * b)));
    _mm512_storeu_ps(list.keys + list.size, _mm512_maskz_compress_ps(part, keys[b]));
    _mm512_storeu_si512(list.rows + list.size, _mm512_maskz_compress_epi32(part, rows));
    list.size += static_cast<uint32_t>(__builtin_popcount(part));
  }
  prune_if_full(job, q);
}

template <bool kL2, bool kBound>
[[gnu::always_inline]] inline void admit_tile(const ScanJob& job, uint32_t q, uint32_t row, uint64_t allowed,
                                              const __m512i (&sums)[4]) {
  const __m512 threshold = _mm512_set1_ps(job.thresholds[q]);
  const __m512 k0 = keys_of<kL2, kBound>(job, q, row, sums[0]), k1 = keys_of<kL2, kBound>(job, q, row + 16, sums[1]);
  const __m512 k2 = keys_of<kL2, kBound>(job, q, row + 32, sums[2]);
  const __m512 k3 = keys_of<kL2, kBound>(job, q, row + 48, sums[3]);
  // Nearly every tile fails this one comparison.
  const __m512 best = _mm512_max_ps(_mm512_max_ps(k0, k1), _mm512_max_ps(k2, k3));
  if (__builtin_expect(_mm512_cmp_ps_mask(best, threshold, _CMP_GT_OQ) == 0, 1)) return;
  const __m512 keys[4] = {k0, k1, k2, k3};
  append(job, q, row, allowed, threshold, keys);
}

inline double fold(__m512d low, __m512d high) {
  const __m512d eight = _mm512_add_pd(low, high);
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

template <RowFormat kFormat>
inline __m512 load_row(const unsigned char* from, __mmask16 mask) {
  if constexpr (kFormat == RowFormat::kF16) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from));
  } else {
    return _mm512_maskz_loadu_ps(mask, from);
  }
}

template <RowFormat kFormat, RowScore kScore>
inline double score_row(const ScoreJob& job, const unsigned char* row) {
  constexpr uint32_t kBytes = kFormat == RowFormat::kF16 ? 2 : 4;
  __m512d low = _mm512_setzero_pd(), high = low, low_squares = low, high_squares = low;
  for (uint32_t i = 0; i < job.dims; i += 16) {
    const uint32_t left = job.dims - i;
    const __mmask16 mask = left >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1U << left) - 1);
    const __m512 q = _mm512_maskz_loadu_ps(mask, job.query + i);
    const __m512 x = load_row<kFormat>(row + size_t{i} * kBytes, mask);
    const __m512d q0 = _mm512_cvtps_pd(_mm512_castps512_ps256(q)), q1 = _mm512_cvtps_pd(_mm512_extractf32x8_ps(q, 1));
    const __m512d x0 = _mm512_cvtps_pd(_mm512_castps512_ps256(x)), x1 = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    if constexpr (kScore == RowScore::kL2) {
      // No fused multiply here: the square of a difference is not exact in f64, so fusing would change the bits.
      const __m512d d0 = _mm512_sub_pd(q0, x0), d1 = _mm512_sub_pd(q1, x1);
      low = _mm512_add_pd(low, _mm512_mul_pd(d0, d0));
      high = _mm512_add_pd(high, _mm512_mul_pd(d1, d1));
    } else {
      low = _mm512_fmadd_pd(q0, x0, low);  // the product is exact, so fused and unfused agree
      high = _mm512_fmadd_pd(q1, x1, high);
      if constexpr (kScore == RowScore::kCosine) {
        low_squares = _mm512_fmadd_pd(x0, x0, low_squares);
        high_squares = _mm512_fmadd_pd(x1, x1, high_squares);
      }
    }
  }
  return finish_score(job, fold(low, high), kScore == RowScore::kCosine ? fold(low_squares, high_squares) : 0.0);
}

template <RowFormat kFormat, RowScore kScore>
inline void score_list(const ScoreJob& job) {
  constexpr uint32_t kAhead = 8;  // rows whose lines are fetched while earlier ones are scored
  const auto row_at = [&](uint32_t i) {
    const size_t row = job.rows == nullptr ? size_t{job.first} + i : job.rows[i];
    return job.base + row * job.row_bytes;
  };
  const auto fetch = [&](uint32_t i) {
    const unsigned char* row = row_at(i);
    for (size_t byte = 0; byte < job.row_bytes; byte += 64) _mm_prefetch(row + byte, _MM_HINT_T0);
  };
  if (job.rows != nullptr) {
    for (uint32_t i = 0; i < kAhead && i < job.count; ++i) fetch(i);
  }
  for (uint32_t i = 0; i < job.count; ++i) {
    if (job.rows != nullptr && i + kAhead < job.count) fetch(i + kAhead);
    job.out[i] = score_row<kFormat, kScore>(job, row_at(i));
  }
}

template <RowFormat kFormat>
inline void score_format(const ScoreJob& job) {
  switch (job.score) {
    case RowScore::kIp: return score_list<kFormat, RowScore::kIp>(job);
    case RowScore::kCosine: return score_list<kFormat, RowScore::kCosine>(job);
    case RowScore::kL2: return score_list<kFormat, RowScore::kL2>(job);
  }
}

void score_rows(const ScoreJob& job) {
  if (job.format == RowFormat::kF16) {
    score_format<RowFormat::kF16>(job);
  } else {
    score_format<RowFormat::kF32>(job);
  }
}

void widen_f16(const unsigned char* from, float* to, size_t count) {
  for (size_t i = 0; i < count; i += 16) {
    const size_t left = count - i;
    const __mmask16 mask = left >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1U << left) - 1);
    _mm512_mask_storeu_ps(to + i, mask, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from + 2 * i)));
  }
}

}  // namespace
}  // namespace belfry
