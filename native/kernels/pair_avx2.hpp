#pragma once

// PairKernels with AVX2: both sides widened to 16 bits for vpmaddwd. Internal linkage, as in walk_loop.hpp.

#include <immintrin.h>

#include "kernels/pair_portable.hpp"
#include "kernels/unroll.hpp"

namespace belfry {
namespace {

struct PairAvx2 {
  static constexpr uint32_t kJoinRows = 2;  // 8 accumulators, 4 widened loads and 2 spread codes fit 16 registers

  static void pack(const uint8_t* codes, size_t stride, uint32_t groups, const uint32_t* rows, uint32_t count,
                   int8_t* blocks) {
    PairPortable::pack(codes, stride, groups, rows, count, blocks);
  }

  template <uint32_t kRows>
  [[gnu::noinline]] static void tile(const JoinJob& job, uint32_t first, int32_t (*out)[kPairTileRows]) {
    const size_t block_bytes = size_t{job.columns.groups} * 64;
    for (uint32_t b = 0; b < kPairTileRows / kPairBlockRows; ++b) {
      const int8_t* codes = job.columns.blocks + b * block_bytes;
      const uint8_t* row = job.rows + first * job.stride;
      __m256i pairs[kRows][4];
      unroll<kRows>([&](auto r) BELFRY_INLINE_BODY {
        unroll<4>([&](auto i) BELFRY_INLINE_BODY { pairs[r.value][i.value] = _mm256_setzero_si256(); });
      });
      for (const int8_t* const end = codes + block_bytes; codes != end; codes += 64, row += 4) {
        __m256i x[4];
        widen(codes, x);
        unroll<kRows>([&](auto r) BELFRY_INLINE_BODY {
          const __m256i four = spread(row + r.value * job.stride, 0);
          unroll<4>([&](auto i) BELFRY_INLINE_BODY {
            pairs[r.value][i.value] = _mm256_add_epi32(pairs[r.value][i.value], _mm256_madd_epi16(x[i.value], four));
          });
        });
      }
      unroll<kRows>([&](auto r) BELFRY_INLINE_BODY {
        unroll<2>([&](auto half) BELFRY_INLINE_BODY {
          const auto* offset = reinterpret_cast<const __m256i*>(job.columns.offset + 16 * b + 8 * half.value);
          _mm256_store_si256(reinterpret_cast<__m256i*>(&out[r.value][16 * b + 8 * half.value]),
                             _mm256_add_epi32(fold(pairs[r.value][2 * half.value], pairs[r.value][2 * half.value + 1]),
                                              _mm256_load_si256(offset)));
        });
      });
    }
  }

  static uint64_t near(const JoinJob& job, uint32_t row, const float*, const int32_t* sums, float* out) {
    const __m256 scale = _mm256_set1_ps(-2 * job.scale[row]), norm = _mm256_set1_ps(job.norm[row]);
    const __m256 limit = _mm256_set1_ps(job.limit[row]);
    uint64_t mask = 0;
    for (uint32_t c = 0; c < kPairTileRows; c += 8) {
      const __m256 d =
          distance(_mm256_load_si256(reinterpret_cast<const __m256i*>(sums + c)), _mm256_load_ps(job.columns.scale + c),
                   _mm256_load_ps(job.columns.norm + c), scale, norm);
      const __m256 either = _mm256_max_ps(limit, _mm256_load_ps(job.column_limit + c));
      mask |= uint64_t{static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(d, either, _CMP_LT_OQ)))} << c;
      _mm256_store_ps(out + c, d);
    }
    return mask;
  }

  static void strip(const uint8_t* row, size_t step, uint32_t flip, float scale, float norm, const PairColumns& columns,
                    uint32_t blocks, float* out) {
    const __m256 s = _mm256_set1_ps(-2 * scale), n = _mm256_set1_ps(norm);
    const int8_t* codes = columns.blocks;
    for (uint32_t b = 0; b < blocks; ++b) {
      __m256i pairs[4];
      for (__m256i& pair : pairs) pair = _mm256_setzero_si256();
      for (uint32_t g = 0; g < columns.groups; ++g, codes += 64) {
        __m256i x[4];
        widen(codes, x);
        const __m256i four = spread(row + g * step, flip);
        unroll<4>([&](auto i) BELFRY_INLINE_BODY {
          pairs[i.value] = _mm256_add_epi32(pairs[i.value], _mm256_madd_epi16(x[i.value], four));
        });
      }
      unroll<2>([&](auto half) BELFRY_INLINE_BODY {
        const uint32_t at = 16 * b + 8 * half.value;
        const __m256i sums = _mm256_add_epi32(fold(pairs[2 * half.value], pairs[2 * half.value + 1]),
                                              _mm256_load_si256(reinterpret_cast<const __m256i*>(columns.offset + at)));
        _mm256_store_ps(out + at,
                        distance(sums, _mm256_load_ps(columns.scale + at), _mm256_load_ps(columns.norm + at), s, n));
      });
    }
  }

  static void lower(const float* between, uint32_t blocks, float* nearest) {
    for (uint32_t i = 0; i < blocks * kPairBlockRows; i += 8) {
      _mm256_store_ps(nearest + i, _mm256_min_ps(_mm256_load_ps(between + i), _mm256_load_ps(nearest + i)));
    }
  }

  static uint32_t farthest(const float* nearest, const float* inverse, uint32_t blocks) {
    const auto part = [&](uint32_t i) {
      return _mm256_mul_ps(_mm256_load_ps(nearest + i), _mm256_load_ps(inverse + i));
    };
    __m256 most = part(0);
    for (uint32_t i = 8; i < blocks * kPairBlockRows; i += 8) most = _mm256_max_ps(most, part(i));
    alignas(32) float lanes[8];
    _mm256_store_ps(lanes, most);
    for (uint32_t i = 1; i < 8; ++i) lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    const __m256 wanted = _mm256_set1_ps(lanes[0]);
    for (uint32_t i = 0;; i += 8) {
      const auto equal = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(part(i), wanted, _CMP_EQ_OQ)));
      if (equal != 0) return i + static_cast<uint32_t>(__builtin_ctz(equal));
    }
  }

  // As on the portable level, with the counting eight at a time.
  static float cut(float* distances, uint32_t* rows, uint32_t count, uint32_t keep) {
    const uint32_t whole = count / 8 * 8;
    uint32_t limit = 0;
    for (uint32_t bit = 1U << 30; bit != 0; bit >>= 1) {
      const auto tried = static_cast<int32_t>(limit | bit);
      const __m256i wanted = _mm256_set1_epi32(tried);
      __m256i total = _mm256_setzero_si256();
      uint32_t i = 0;
      for (; i < whole; i += 8) {
        const __m256i d = _mm256_load_si256(reinterpret_cast<const __m256i*>(distances + i));
        total = _mm256_sub_epi32(total, _mm256_cmpgt_epi32(wanted, d));
      }
      __m128i four = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
      four = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
      auto below = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 1))));
      for (; i < count; ++i) below += PairPortable::bits_of(distances[i]) < static_cast<uint32_t>(tried) ? 1 : 0;
      if (below == keep)
        return PairPortable::keep_up_to(largest_below(tried, distances, count), distances, rows, count, keep);
      if (below < keep) limit |= bit;
    }
    return PairPortable::keep_up_to(limit, distances, rows, count, keep);
  }

 private:
  static uint32_t largest_below(int32_t bar, const float* distances, uint32_t count) {
    uint32_t largest = 0;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t bits = PairPortable::bits_of(distances[i]);
      if (bits < static_cast<uint32_t>(bar) && bits > largest) largest = bits;
    }
    return largest;
  }
  static inline void widen(const int8_t* codes, __m256i (&x)[4]) {
    const auto* four_rows = reinterpret_cast<const __m128i*>(codes);
    unroll<4>([&](auto i)
                  BELFRY_INLINE_BODY { x[i.value] = _mm256_cvtepi8_epi16(_mm_load_si128(four_rows + i.value)); });
  }
  static inline __m256i spread(const uint8_t* from, uint32_t flip) {
    return _mm256_cvtepu8_epi16(_mm_set1_epi32(static_cast<int32_t>(PairPortable::load_four(from) ^ flip)));
  }
  // hadd works inside 128-bit lanes: rows 0 1 4 5 | 2 3 6 7; the permutation restores the order.
  static inline __m256i fold(__m256i low, __m256i high) {
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
  }
  static inline __m256 distance(__m256i dots, __m256 column_scale, __m256 column_norm, __m256 scale, __m256 norm) {
    const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(column_scale, scale));
    return _mm256_max_ps(_mm256_add_ps(product, _mm256_add_ps(column_norm, norm)), _mm256_setzero_ps());
  }
};

}  // namespace
}  // namespace belfry
