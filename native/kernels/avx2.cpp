// AVX2. vpmaddubsw would saturate on full 8-bit codes, so both sides are widened to 16 bits and multiplied by
// vpmaddwd, which cannot: 2 x 255 x 127 is far below 2^31.
#include <immintrin.h>

#include <cstdint>

#include "kernels/kernels.hpp"
#include "kernels/pair_avx2.hpp"
#include "kernels/portable_scan.hpp"
#include "kernels/unroll.hpp"
#include "kernels/walk_avx2.hpp"

namespace belfry::kernels::avx2 {

namespace {

constexpr uint32_t kTileQueriesMin = 4;  // fewer do not repay the interleaving of a tile

// Four query codes as 16-bit numbers, four times over: one copy for each of the four rows of a 16-byte load.
inline __m256i spread4(const int8_t* from) {
  int32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  return _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
}

// Sums of the 16 rows of a block with kQueries queries. At most 2: 8 accumulators, 4 widened loads and 2 spread codes
// fit the 16 registers, if every index is constant and nothing else is inlined beside it (see unroll.hpp).
template <uint32_t kQueries>
[[gnu::noinline]] void block_dots(const uint8_t* codes, size_t bytes, const int8_t* query, size_t stride,
                                  const int32_t* offsets, int32_t (*out)[kBlockRows]) {
  __m256i pairs[kQueries][4];
  unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
    unroll<4>([&](auto i) BELFRY_INLINE_BODY { pairs[r.value][i.value] = _mm256_setzero_si256(); });
  });
  for (const uint8_t* const end = codes + bytes; codes != end; codes += 64, query += 4) {
    const __m128i* four_rows = reinterpret_cast<const __m128i*>(codes);
    const __m256i x0 = _mm256_cvtepu8_epi16(_mm_load_si128(four_rows));
    const __m256i x1 = _mm256_cvtepu8_epi16(_mm_load_si128(four_rows + 1));
    const __m256i x2 = _mm256_cvtepu8_epi16(_mm_load_si128(four_rows + 2));
    const __m256i x3 = _mm256_cvtepu8_epi16(_mm_load_si128(four_rows + 3));
    unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
      const __m256i q = spread4(query + r.value * stride);
      pairs[r.value][0] = _mm256_add_epi32(pairs[r.value][0], _mm256_madd_epi16(x0, q));
      pairs[r.value][1] = _mm256_add_epi32(pairs[r.value][1], _mm256_madd_epi16(x1, q));
      pairs[r.value][2] = _mm256_add_epi32(pairs[r.value][2], _mm256_madd_epi16(x2, q));
      pairs[r.value][3] = _mm256_add_epi32(pairs[r.value][3], _mm256_madd_epi16(x3, q));
    });
  }
  unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
    const __m256i offset = _mm256_set1_epi32(offsets[r.value]);
    unroll<2>([&](auto half) BELFRY_INLINE_BODY {
      // hadd works inside 128-bit lanes: rows 0 1 4 5 | 2 3 6 7; the permutation restores the order.
      const __m256i added = _mm256_hadd_epi32(pairs[r.value][2 * half.value], pairs[r.value][2 * half.value + 1]);
      const __m256i sums = _mm256_add_epi32(_mm256_permute4x64_epi64(added, 0xd8), offset);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(&out[r.value][8 * half.value]), sums);
    });
  });
}

inline __m256i column_of_two(const uint8_t* from, size_t stride) {
  const __m256i low = _mm256_castsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
  return _mm256_inserti128_si256(low, _mm_load_si128(reinterpret_cast<const __m128i*>(from + 4 * stride)), 1);
}

inline size_t tile_block_bytes(const ScanJob& job) { return size_t{(job.items.rows.dims + 3) / 4} * 64; }

// Interleaves the 64 rows from `row` into job.tile, as the AVX-512 levels do (avx512_common.hpp).
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

template <bool kL2, bool kBound>
inline __m256 keys_of(const ScanJob& job, uint32_t q, uint32_t row, __m256i sums) {
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

template <bool kL2, bool kBound>
inline void admit(const ScanJob& job, uint32_t q, uint32_t row, uint32_t allowed, const int32_t* sums) {
  const __m256 threshold = _mm256_set1_ps(job.thresholds[q]);
  const __m256i* halves = reinterpret_cast<const __m256i*>(sums);
  const __m256 low = keys_of<kL2, kBound>(job, q, row, _mm256_load_si256(halves));
  const __m256 high = keys_of<kL2, kBound>(job, q, row + 8, _mm256_load_si256(halves + 1));
  uint32_t mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(low, threshold, _CMP_GT_OQ))) |
                  static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(high, threshold, _CMP_GT_OQ))) << 8;
  mask &= allowed;
  if (__builtin_expect(mask == 0, 1)) return;
  alignas(32) float keys[16];
  _mm256_store_ps(keys, low);
  _mm256_store_ps(keys + 8, high);
  Candidates& list = job.lists[q];
  for (; mask != 0; mask &= mask - 1) {
    const uint32_t r = static_cast<uint32_t>(__builtin_ctz(mask));
    list.keys[list.size] = keys[r];
    list.rows[list.size++] = row + r;
  }
}

template <bool kL2, bool kBound, uint32_t kQueries>
inline void scan_tile(const ScanJob& job, uint32_t q, uint32_t row, uint64_t allowed) {
  const size_t block_bytes = tile_block_bytes(job), stride = job.items.rows.stride;
  alignas(32) int32_t sums[kQueries][kBlockRows];
  for (uint32_t b = 0; b < 4; ++b) {
    block_dots<kQueries>(job.tile + b * block_bytes, block_bytes, job.query_codes + q * stride, stride, job.offsets + q,
                         sums);
    for (uint32_t r = 0; r < kQueries; ++r) {
      admit<kL2, kBound>(job, q + r, row + b * kBlockRows, static_cast<uint32_t>(allowed >> (16 * b)) & 0xffffU,
                         sums[r]);
    }
  }
  for (uint32_t r = 0; r < kQueries; ++r) prune_if_full(job, q + r);
}

// The totals of 8 vectors, lane r that of x[r].
inline __m256i totals(const __m256i (&x)[8]) {
  const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(x[0], x[1]), _mm256_hadd_epi32(x[2], x[3]));
  const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(x[4], x[5]), _mm256_hadd_epi32(x[6], x[7]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

// Sums of one query with 8 rows, the r-th at row_at(r): straight from the rows, so that each is read once.
template <class RowAt>
[[gnu::always_inline]] inline __m256i row_dots(const RowAt& row_at, size_t stride, const int8_t* query) {
  __m256i sums[8];
  unroll<8>([&](auto r) BELFRY_INLINE_BODY { sums[r.value] = _mm256_setzero_si256(); });
  for (size_t byte = 0; byte < stride; byte += 16) {
    const __m256i q = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(query + byte)));
    unroll<8>([&](auto r) BELFRY_INLINE_BODY {
      const __m256i x = _mm256_cvtepu8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(row_at(r.value) + byte)));
      sums[r.value] = _mm256_add_epi32(sums[r.value], _mm256_madd_epi16(x, q));
    });
  }
  return totals(sums);
}

// A few queries pass over the rows themselves, one after the other.
template <bool kL2, bool kBound>
inline void scan_rows(const ScanJob& job, uint32_t row, uint64_t allowed) {
  const size_t stride = job.items.rows.stride;
  for (uint32_t q = 0; q < job.count; ++q) {
    const __m256i offset = _mm256_set1_epi32(job.offsets[q]);
    for (uint32_t b = 0; b < 4; ++b) {
      alignas(32) int32_t sums[kBlockRows];
      for (uint32_t half = 0; half < 2; ++half) {
        const uint8_t* rows = job.items.rows.codes + (size_t{row} + b * kBlockRows + half * 8) * stride;
        const __m256i dots = row_dots([&](uint32_t r) BELFRY_INLINE_BODY { return rows + r * stride; }, stride,
                                      job.query_codes + q * stride);
        _mm256_store_si256(reinterpret_cast<__m256i*>(sums + 8 * half), _mm256_add_epi32(dots, offset));
      }
      admit<kL2, kBound>(job, q, row + b * kBlockRows, static_cast<uint32_t>(allowed >> (16 * b)) & 0xffffU, sums);
    }
    prune_if_full(job, q);
  }
}

template <bool kL2, bool kBound>
void scan(const ScanJob& job) {
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    const uint64_t allowed = job.allowed == nullptr ? ~uint64_t{0} : job.allowed[(row - job.row_begin) / kTileRows];
    if (allowed == 0) continue;
    if (job.count < kTileQueriesMin) {
      scan_rows<kL2, kBound>(job, row, allowed);
      continue;
    }
    fill_tile(job, row);
    uint32_t q = 0;
    for (; q + 2 <= job.count; q += 2) scan_tile<kL2, kBound, 2>(job, q, row, allowed);
    if (q < job.count) scan_tile<kL2, kBound, 1>(job, q, row, allowed);
  }
}

void dots(const ScanJob& job, int32_t* out) {
  const size_t block_bytes = tile_block_bytes(job), stride = job.items.rows.stride;
  const uint32_t rows = job.row_end - job.row_begin;
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    fill_tile(job, row);
    for (uint32_t q = 0; q < job.count; ++q) {
      for (uint32_t b = 0; b < 4; ++b) {
        int32_t* to = out + size_t{q} * rows + (row - job.row_begin) + b * kBlockRows;
        block_dots<1>(job.tile + b * block_bytes, block_bytes, job.query_codes + q * stride, stride, job.offsets + q,
                      reinterpret_cast<int32_t(*)[kBlockRows]>(to));
      }
    }
  }
}

void dot_rows(const CodeRows& items, const int8_t* query, int32_t offset, const uint32_t* rows, uint32_t count,
              int32_t* out) {
  const size_t stride = items.stride;
  const auto fetch = [&](uint32_t begin, uint32_t end) {
    for (uint32_t i = begin; i < end && i < count; ++i) {
      const uint8_t* row = items.codes + rows[i] * stride;
      for (size_t byte = 0; byte < stride; byte += 64) _mm_prefetch(row + byte, _MM_HINT_T0);
    }
  };
  fetch(0, 8);
  for (uint32_t i = 0; i < count; i += 8) {
    fetch(i + 8, i + 16);
    const uint32_t last = count - i < 8 ? count - i - 1 : 7;  // stands in for the rows that are missing
    const __m256i sums =
        row_dots([&](uint32_t r) BELFRY_INLINE_BODY { return items.codes + rows[i + (r < last ? r : last)] * stride; },
                 stride, query);
    alignas(32) int32_t eight[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(eight), _mm256_add_epi32(sums, _mm256_set1_epi32(offset)));
    __builtin_memcpy(out + i, eight, 4 * (last + 1));
  }
}

// |a| and the centred codes of b with the signs of a: vpmaddubsw multiplies them without saturation, because
// 2 x 127 x 127 is below 2^15.
void dot_block(const CodeRows& items, const uint32_t* left, uint32_t left_count, const uint32_t* right,
               uint32_t right_count, int32_t* out) {
  alignas(32) int8_t centred[4096];  // kDimsMax
  const __m256i middle = _mm256_set1_epi8(-128), ones = _mm256_set1_epi16(1);
  for (uint32_t i = 0; i < left_count; ++i) {
    const uint8_t* a = items.codes + left[i] * items.stride;
    for (size_t d = 0; d < items.stride; ++d) centred[d] = static_cast<int8_t>(d < items.dims ? int{a[d]} - 128 : 0);
    for (uint32_t j = 0; j < right_count; j += 8) {
      const uint32_t wide = right_count - j < 8 ? right_count - j : 8;
      const uint8_t* rows[8];
      for (uint32_t c = 0; c < 8; ++c) rows[c] = items.codes + right[j + (c < wide ? c : 0)] * items.stride;
      __m256i sums[8];
      unroll<8>([&](auto c) BELFRY_INLINE_BODY { sums[c.value] = _mm256_setzero_si256(); });
      for (size_t byte = 0; byte < items.stride; byte += 32) {
        const __m256i x = _mm256_load_si256(reinterpret_cast<const __m256i*>(centred + byte));
        const __m256i size = _mm256_abs_epi8(x);
        unroll<8>([&](auto c) BELFRY_INLINE_BODY {
          const __m256i y = _mm256_load_si256(reinterpret_cast<const __m256i*>(rows[c.value] + byte));
          const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(_mm256_xor_si256(y, middle), x));
          sums[c.value] = _mm256_add_epi32(sums[c.value], _mm256_madd_epi16(pairs, ones));
        });
      }
      alignas(32) int32_t eight[8];
      _mm256_store_si256(reinterpret_cast<__m256i*>(eight), totals(sums));
      __builtin_memcpy(out + size_t{i} * right_count + j, eight, 4 * wide);
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

constexpr PairKernels kPairs = pair_kernels<PairAvx2>();
constexpr KernelTable kTable = {"avx2",    {scan<false, false>, scan<true, false>, scan<false, true>, scan<true, true>},
                                dots,      dot_rows,
                                dot_block, score_rows,
                                widen_f16, walk_graph<WalkAvx2>,
                                &kPairs};

}  // namespace

const KernelTable& table() { return kTable; }

}  // namespace belfry::kernels::avx2
