// AVX2. vpmaddubsw would saturate on full 8-bit codes, so both sides are widened to 16 bits and multiplied by
// vpmaddwd, which cannot: 2 x 255 x 127 is far below 2^31.
#include <immintrin.h>

#include <cstdint>

#include "kernels/kernels.hpp"
#include "kernels/portable_scan.hpp"
#include "kernels/unroll.hpp"

namespace belfry::kernels::avx2 {

namespace {

// Four query codes as 16-bit numbers, four times over: one copy for each of the four rows of a 16-byte load.
inline __m256i spread4(const int8_t* from) {
  int32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  return _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
}

// Sums of the 16 rows of a block with kQueries queries. At most 2: 8 accumulators, 4 widened loads and 2 spread codes
// fit the 16 registers, if every index is constant and nothing else is inlined beside it (see unroll.hpp).
template <uint32_t kQueries>
[[gnu::noinline]] void block_dots(const uint8_t* codes, uint32_t groups, const int8_t* query, size_t stride,
                                  const int32_t* offsets, int32_t (*out)[kBlockRows]) {
  __m256i pairs[kQueries][4];
  unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
    unroll<4>([&](auto i) BELFRY_INLINE_BODY { pairs[r.value][i.value] = _mm256_setzero_si256(); });
  });
  for (const uint8_t* const end = codes + size_t{groups} * 64; codes != end; codes += 64, query += 4) {
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
  const size_t block_bytes = size_t{job.items.groups} * 64;
  alignas(32) int32_t sums[kQueries][kBlockRows];
  for (uint32_t b = 0; b < 4; ++b) {
    block_dots<kQueries>(job.items.codes + (row / kBlockRows + b) * block_bytes, job.items.groups,
                         job.query_codes + q * job.query_stride, job.query_stride, job.offsets + q, sums);
    for (uint32_t r = 0; r < kQueries; ++r) {
      admit<kL2, kBound>(job, q + r, row + b * kBlockRows, static_cast<uint32_t>(allowed >> (16 * b)) & 0xffffU,
                         sums[r]);
    }
  }
  for (uint32_t r = 0; r < kQueries; ++r) prune_if_full(job, q + r);
}

template <bool kL2, bool kBound>
void scan(const ScanJob& job) {
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    const uint64_t allowed = job.allowed == nullptr ? ~uint64_t{0} : job.allowed[(row - job.row_begin) / kTileRows];
    if (allowed == 0) continue;
    uint32_t q = 0;
    for (; q + 2 <= job.count; q += 2) scan_tile<kL2, kBound, 2>(job, q, row, allowed);
    if (q < job.count) scan_tile<kL2, kBound, 1>(job, q, row, allowed);
  }
}

void dots(const ScanJob& job, int32_t* out) {
  const size_t block_bytes = size_t{job.items.groups} * 64;
  for (uint32_t q = 0; q < job.count; ++q) {
    for (uint32_t row = job.row_begin; row < job.row_end; row += kBlockRows, out += kBlockRows) {
      block_dots<1>(job.items.codes + row / kBlockRows * block_bytes, job.items.groups,
                    job.query_codes + q * job.query_stride, job.query_stride, job.offsets + q,
                    reinterpret_cast<int32_t(*)[kBlockRows]>(out));
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

constexpr KernelTable kTable = {
    "avx2", 4,          {scan<false, false>, scan<true, false>, scan<false, true>, scan<true, true>},
    dots,   score_rows, widen_f16};

}  // namespace

const KernelTable& table() { return kTable; }

}  // namespace belfry::kernels::avx2
