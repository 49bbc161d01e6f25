#pragma once

// PairKernels with AVX-512 VNNI. Internal linkage, as in walk_loop.hpp.

#include <immintrin.h>

#include "kernels/pair_loop.hpp"
#include "kernels/unroll.hpp"

namespace belfry {
namespace {

struct PairAvx512 {
  static constexpr uint32_t kJoinRows = 6;  // 24 accumulators, 4 column vectors, 1 row: 29 of 32 registers

  // 16 rows x 16 groups at a time: a transposition of 16 x 16 dwords in registers.
  static void pack(const uint8_t* codes, size_t stride, uint32_t groups, const uint32_t* rows, uint32_t count,
                   int8_t* blocks) {
    for (uint32_t first = 0; first < count; first += kPairBlockRows, blocks += size_t{groups} * 64) {
      const uint8_t* from[kPairBlockRows];
      for (uint32_t i = 0; i < kPairBlockRows; ++i) {
        const uint32_t at = first + i < count ? first + i : count - 1;
        from[i] = codes + (rows == nullptr ? at : rows[at]) * stride;
      }
      for (uint32_t g = 0; g < groups; g += 16) {
        const uint32_t present = groups - g < 16 ? groups - g : 16;
        transpose(from, size_t{g} * 4, static_cast<__mmask16>((1U << present) - 1), present, blocks + size_t{g} * 64);
      }
    }
  }

  // Sums of kRows rows with 64 columns; see tile_dots of the scan for why this is a function of its own.
  template <uint32_t kRows>
  [[gnu::noinline]] static void tile(const JoinJob& job, uint32_t first, int32_t (*out)[kPairTileRows]) {
    const size_t block_bytes = size_t{job.columns.groups} * 64, stride = job.stride;
    const int8_t* codes = job.columns.blocks;
    const int8_t* const end = codes + block_bytes;
    const uint8_t* row = job.rows + first * stride;
    __m512i sums[kRows][4];
    unroll<4>([&](auto b) BELFRY_INLINE_BODY {
      const __m512i offset = _mm512_load_si512(job.columns.offset + 16 * b.value);
      unroll<kRows>([&](auto r) BELFRY_INLINE_BODY { sums[r.value][b.value] = offset; });
    });
    for (; codes != end; codes += 64, row += 4) {
      const __m512i x0 = _mm512_load_si512(codes), x1 = _mm512_load_si512(codes + block_bytes);
      const __m512i x2 = _mm512_load_si512(codes + 2 * block_bytes), x3 = _mm512_load_si512(codes + 3 * block_bytes);
      unroll<kRows>([&](auto r) BELFRY_INLINE_BODY {
        const __m512i four = spread(row + r.value * stride, 0);
        sums[r.value][0] = _mm512_dpbusd_epi32(sums[r.value][0], four, x0);
        sums[r.value][1] = _mm512_dpbusd_epi32(sums[r.value][1], four, x1);
        sums[r.value][2] = _mm512_dpbusd_epi32(sums[r.value][2], four, x2);
        sums[r.value][3] = _mm512_dpbusd_epi32(sums[r.value][3], four, x3);
      });
    }
    unroll<kRows>([&](auto r) BELFRY_INLINE_BODY {
      unroll<4>([&](auto b)
                    BELFRY_INLINE_BODY { _mm512_store_si512(&out[r.value][16 * b.value], sums[r.value][b.value]); });
    });
  }

  // Nearly every tile has nothing near. That is found out with half the work: distance - limit, fused, less the slack
  // that makes up for other rounding, and one comparison for four blocks.
  [[gnu::always_inline]] static inline uint64_t near(const JoinJob& job, uint32_t row, const float* reach,
                                                     const int32_t* sums, float* out) {
    const __m512 scale = _mm512_set1_ps(-2 * job.scale[row]), limit = _mm512_set1_ps(job.limit[row]);
    __m512 excess[4];
    unroll<4>([&](auto b) BELFRY_INLINE_BODY {
      constexpr uint32_t at = 16 * decltype(b)::value;
      const __m512 either = _mm512_max_ps(limit, _mm512_load_ps(job.column_limit + at));
      const __m512 dots =
          _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + at)), _mm512_load_ps(job.columns.scale + at));
      excess[b.value] = _mm512_fmadd_ps(dots, scale, _mm512_sub_ps(_mm512_load_ps(reach + at), either));
    });
    const __m512 least = _mm512_min_ps(_mm512_min_ps(excess[0], excess[1]), _mm512_min_ps(excess[2], excess[3]));
    const __m512 bar = _mm512_set1_ps(job.norm[row] * (kReachSlack - 1));
    if (__builtin_expect(_mm512_cmp_ps_mask(least, bar, _CMP_LE_OQ) == 0, 1)) return 0;
    return near_exactly(job, row, sums, out);
  }

  static void strip(const uint8_t* row, size_t step, uint32_t flip, float scale, float norm, const PairColumns& columns,
                    uint32_t blocks, float* out) {
    const uint32_t groups = columns.groups;
    const size_t block_bytes = size_t{groups} * 64;
    const int8_t* codes = columns.blocks;
    const __m512 s = _mm512_set1_ps(-2 * scale), n = _mm512_set1_ps(norm);
    const auto start = [&](uint32_t b) { return _mm512_load_si512(columns.offset + 16 * b); };
    const auto finish = [&](uint32_t b, __m512i sums) {
      _mm512_store_ps(out + 16 * b, distance(sums, _mm512_load_ps(columns.scale + 16 * b),
                                             _mm512_load_ps(columns.norm + 16 * b), s, n));
    };
    uint32_t b = 0;
    for (; b + 4 <= blocks; b += 4, codes += 4 * block_bytes) {
      __m512i s0 = start(b), s1 = start(b + 1), s2 = start(b + 2), s3 = start(b + 3);
      const int8_t* at = codes;
      for (uint32_t g = 0; g < groups; ++g, at += 64) {
        const __m512i four = spread(row + g * step, flip);
        s0 = _mm512_dpbusd_epi32(s0, four, _mm512_load_si512(at));
        s1 = _mm512_dpbusd_epi32(s1, four, _mm512_load_si512(at + block_bytes));
        s2 = _mm512_dpbusd_epi32(s2, four, _mm512_load_si512(at + 2 * block_bytes));
        s3 = _mm512_dpbusd_epi32(s3, four, _mm512_load_si512(at + 3 * block_bytes));
      }
      finish(b, s0);
      finish(b + 1, s1);
      finish(b + 2, s2);
      finish(b + 3, s3);
    }
    for (; b < blocks; ++b, codes += block_bytes) {
      __m512i sum = start(b), other = _mm512_setzero_si512();  // two chains hide the latency
      uint32_t g = 0;
      for (; g + 2 <= groups; g += 2) {
        const int8_t* at = codes + size_t{g} * 64;
        sum = _mm512_dpbusd_epi32(sum, spread(row + g * step, flip), _mm512_load_si512(at));
        other = _mm512_dpbusd_epi32(other, spread(row + (g + 1) * step, flip), _mm512_load_si512(at + 64));
      }
      if (g < groups) {
        sum = _mm512_dpbusd_epi32(sum, spread(row + g * step, flip), _mm512_load_si512(codes + size_t{g} * 64));
      }
      finish(b, _mm512_add_epi32(sum, other));
    }
  }

  static void lower(const float* between, uint32_t blocks, float* nearest) {
    for (uint32_t i = 0; i < blocks * kPairBlockRows; i += 16) {
      _mm512_store_ps(nearest + i, _mm512_min_ps(_mm512_load_ps(between + i), _mm512_load_ps(nearest + i)));
    }
  }

  static uint32_t farthest(const float* nearest, const float* inverse, uint32_t blocks) {
    const auto part = [&](uint32_t b) {
      return _mm512_mul_ps(_mm512_load_ps(nearest + 16 * b), _mm512_load_ps(inverse + 16 * b));
    };
    __m512 most = part(0);
    for (uint32_t b = 1; b < blocks; ++b) most = _mm512_max_ps(most, part(b));
    const __m512 wanted = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (uint32_t b = 0;; ++b) {
      const uint32_t equal = _mm512_cmp_ps_mask(part(b), wanted, _CMP_EQ_OQ);
      if (equal != 0) return 16 * b + static_cast<uint32_t>(__builtin_ctz(equal));
    }
  }

  static float cut(float* distances, uint32_t* rows, uint32_t count, uint32_t keep) {
    const uint32_t whole = count / 16;
    const auto rest = static_cast<__mmask16>((1U << (count % 16)) - 1);
    const auto below = [&](__m512i value) {
      uint32_t total = 0;
      for (uint32_t v = 0; v < whole; ++v) {
        total += static_cast<uint32_t>(
            __builtin_popcount(_mm512_cmplt_epi32_mask(_mm512_load_si512(distances + 16 * v), value)));
      }
      const __m512i tail = _mm512_maskz_load_epi32(rest, distances + 16 * size_t{whole});
      return total + static_cast<uint32_t>(__builtin_popcount(_mm512_mask_cmplt_epi32_mask(rest, tail, value)));
    };
    uint32_t limit = 0, parts = 0;
    for (uint32_t bit = 1U << 30; bit != 0 && parts == 0; bit >>= 1) {
      const uint32_t there = below(_mm512_set1_epi32(static_cast<int32_t>(limit | bit)));
      if (there == keep) parts = limit | bit;
      if (there < keep) limit |= bit;
    }
    if (parts != 0) {
      const __m512i bar = _mm512_set1_epi32(static_cast<int32_t>(parts));
      __m512i most = _mm512_setzero_si512();
      for (uint32_t v = 0; v <= whole; ++v) {
        const __m512i d = _mm512_maskz_load_epi32(v < whole ? __mmask16{0xffff} : rest, distances + 16 * size_t{v});
        most = _mm512_mask_max_epi32(most, _mm512_cmplt_epi32_mask(d, bar), most, d);
      }
      limit = static_cast<uint32_t>(_mm512_reduce_max_epi32(most));
    }
    const __m512i largest = _mm512_set1_epi32(static_cast<int32_t>(limit));
    uint32_t equal = keep - below(largest), kept = 0;
    for (uint32_t v = 0; v <= whole; ++v) {
      const __mmask16 present = v < whole ? __mmask16{0xffff} : rest;
      const __m512i d = _mm512_maskz_load_epi32(present, distances + 16 * v);
      const __m512i r = _mm512_maskz_load_epi32(present, rows + 16 * v);
      uint32_t mask = _mm512_mask_cmplt_epi32_mask(present, d, largest);
      for (uint32_t ties = _mm512_mask_cmpeq_epi32_mask(present, d, largest); ties != 0 && equal > 0; --equal) {
        mask |= ties & (0 - ties);
        ties &= ties - 1;
      }
      const auto chosen = static_cast<__mmask16>(mask);
      const auto filled = static_cast<__mmask16>((1U << __builtin_popcount(mask)) - 1);
      _mm512_mask_storeu_epi32(distances + kept, filled, _mm512_maskz_compress_epi32(chosen, d));
      _mm512_mask_storeu_epi32(rows + kept, filled, _mm512_maskz_compress_epi32(chosen, r));
      kept += static_cast<uint32_t>(__builtin_popcount(mask));
    }
    float value;
    __builtin_memcpy(&value, &limit, sizeof value);
    return value;
  }

 private:
  [[gnu::always_inline]] static inline __m512i spread(const uint8_t* from, uint32_t flip) {
    uint32_t four;
    __builtin_memcpy(&four, from, sizeof four);
    return _mm512_set1_epi32(static_cast<int32_t>(four ^ flip));
  }
  [[gnu::noinline]] static uint64_t near_exactly(const JoinJob& job, uint32_t row, const int32_t* sums, float* out) {
    const __m512 scale = _mm512_set1_ps(-2 * job.scale[row]), norm = _mm512_set1_ps(job.norm[row]);
    const __m512 limit = _mm512_set1_ps(job.limit[row]);
    uint64_t mask = 0;
    for (uint32_t at = 0; at < kPairTileRows; at += 16) {
      const __m512 d = distance(_mm512_load_si512(sums + at), _mm512_load_ps(job.columns.scale + at),
                                _mm512_load_ps(job.columns.norm + at), scale, norm);
      const __m512 either = _mm512_max_ps(limit, _mm512_load_ps(job.column_limit + at));
      mask |= uint64_t{_mm512_cmp_ps_mask(d, either, _CMP_LT_OQ)} << at;
      _mm512_store_ps(out + at, d);
    }
    return mask;
  }
  [[gnu::always_inline]] static inline __m512 distance(__m512i dots, __m512 column_scale, __m512 column_norm,
                                                       __m512 scale, __m512 norm) {
    const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(dots), _mm512_mul_ps(column_scale, scale));
    return _mm512_max_ps(_mm512_add_ps(product, _mm512_add_ps(column_norm, norm)), _mm512_setzero_ps());
  }

  [[gnu::always_inline]] static inline void transpose(const uint8_t* const (&from)[16], size_t at, __mmask16 groups,
                                                      uint32_t present, int8_t* block) {
    const __m512i flip = _mm512_set1_epi32(static_cast<int32_t>(0x80808080U));
    __m512i a[16], b[16];
    unroll<16>([&](auto i) BELFRY_INLINE_BODY { a[i.value] = _mm512_maskz_loadu_epi32(groups, from[i.value] + at); });
    unroll<8>([&](auto i) BELFRY_INLINE_BODY {
      constexpr uint32_t k = 2 * decltype(i)::value;
      b[k] = _mm512_unpacklo_epi32(a[k], a[k + 1]);
      b[k + 1] = _mm512_unpackhi_epi32(a[k], a[k + 1]);
    });
    unroll<4>([&](auto i) BELFRY_INLINE_BODY {
      constexpr uint32_t k = 4 * decltype(i)::value;
      a[k] = _mm512_unpacklo_epi64(b[k], b[k + 2]);
      a[k + 1] = _mm512_unpackhi_epi64(b[k], b[k + 2]);
      a[k + 2] = _mm512_unpacklo_epi64(b[k + 1], b[k + 3]);
      a[k + 3] = _mm512_unpackhi_epi64(b[k + 1], b[k + 3]);
    });
    // a[4q + i] holds, in quarter z, group 4z + i of rows 4q .. 4q+3.
    unroll<4>([&](auto i) BELFRY_INLINE_BODY {
      constexpr uint32_t k = decltype(i)::value;
      b[k] = _mm512_shuffle_i32x4(a[k], a[k + 4], 0x88);
      b[k + 4] = _mm512_shuffle_i32x4(a[k], a[k + 4], 0xdd);
      b[k + 8] = _mm512_shuffle_i32x4(a[k + 8], a[k + 12], 0x88);
      b[k + 12] = _mm512_shuffle_i32x4(a[k + 8], a[k + 12], 0xdd);
    });
    unroll<4>([&](auto i) BELFRY_INLINE_BODY {
      constexpr uint32_t k = decltype(i)::value;
      a[k] = _mm512_shuffle_i32x4(b[k], b[k + 8], 0x88);
      a[k + 8] = _mm512_shuffle_i32x4(b[k], b[k + 8], 0xdd);
      a[k + 4] = _mm512_shuffle_i32x4(b[k + 4], b[k + 12], 0x88);
      a[k + 12] = _mm512_shuffle_i32x4(b[k + 4], b[k + 12], 0xdd);
    });
    unroll<16>([&](auto i) BELFRY_INLINE_BODY {
      if (i.value < present) _mm512_store_si512(block + size_t{i.value} * 64, _mm512_xor_si512(a[i.value], flip));
    });
  }
};

}  // namespace
}  // namespace belfry
