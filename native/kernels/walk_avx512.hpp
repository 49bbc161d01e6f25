#pragma once

// The walk's primitives with AVX-512 VNNI. Internal linkage, as in walk_loop.hpp.

#include <immintrin.h>

#include "kernels/unroll.hpp"
#include "kernels/walk_loop.hpp"

namespace belfry {
namespace {

struct WalkAvx512 {
  // Lane i of the result: the sum of the lanes of v[i]. A tree of 15 pairwise steps instead of 16 reductions.
  [[gnu::always_inline]] static inline __m512i sum_each(const __m512i (&v)[16]) {
    __m512i pairs[8], fours[4];
    unroll<8>([&](auto i) BELFRY_INLINE_BODY {
      constexpr uint32_t at = 2 * decltype(i)::value;
      pairs[i.value] =
          _mm512_add_epi32(_mm512_unpacklo_epi32(v[at], v[at + 1]), _mm512_unpackhi_epi32(v[at], v[at + 1]));
    });
    unroll<4>([&](auto i) BELFRY_INLINE_BODY {
      constexpr uint32_t at = 2 * decltype(i)::value;
      fours[i.value] = _mm512_add_epi32(_mm512_unpacklo_epi64(pairs[at], pairs[at + 1]),
                                        _mm512_unpackhi_epi64(pairs[at], pairs[at + 1]));
    });
    // fours[i] holds, in each of its four quarters, a part of the sums of rows 4i .. 4i+3.
    const __m512i low = _mm512_add_epi32(_mm512_shuffle_i32x4(fours[0], fours[1], 0x88),
                                         _mm512_shuffle_i32x4(fours[0], fours[1], 0xdd));
    const __m512i high = _mm512_add_epi32(_mm512_shuffle_i32x4(fours[2], fours[3], 0x88),
                                          _mm512_shuffle_i32x4(fours[2], fours[3], 0xdd));
    return _mm512_add_epi32(_mm512_shuffle_i32x4(low, high, 0x88), _mm512_shuffle_i32x4(low, high, 0xdd));
  }

  [[gnu::always_inline]] static inline int32_t load_bits(const unsigned char* from) {
    int32_t bits;
    __builtin_memcpy(&bits, from, sizeof bits);
    return bits;
  }

  template <uint32_t kLines>
  [[gnu::always_inline]] static inline uint32_t above(const WalkJob& job, const CodeRows& items, const uint32_t* rows,
                                                      float floor, float* out) {
    __m512i sums[16];
    __m512i scale = _mm512_setzero_si512();
    if constexpr (kLines != 0) {
      __m512i query[kLines];
      unroll<kLines>([&](auto l) BELFRY_INLINE_BODY { query[l.value] = _mm512_load_si512(job.query + 64 * l.value); });
      unroll<16>([&](auto i) BELFRY_INLINE_BODY {
        const uint8_t* codes = items.codes + rows[i.value] * items.stride;
        __m512i sum = _mm512_setzero_si512();
        unroll<kLines>([&](auto l) BELFRY_INLINE_BODY {
          sum = _mm512_dpbusd_epi32(sum, _mm512_load_si512(codes + 64 * l.value), query[l.value]);
        });
        sums[i.value] = sum;
        scale = _mm512_mask_set1_epi32(scale, static_cast<__mmask16>(1U << i.value),
                                       load_bits(items.scale + rows[i.value] * items.scale_stride));
      });
    } else {
      unroll<16>([&](auto i) BELFRY_INLINE_BODY {
        const uint8_t* codes = items.codes + rows[i.value] * items.stride;
        __m512i sum = _mm512_setzero_si512(), other = sum;
        size_t byte = 0;
        for (; byte + 128 <= items.stride; byte += 128) {
          sum = _mm512_dpbusd_epi32(sum, _mm512_load_si512(codes + byte), _mm512_load_si512(job.query + byte));
          other = _mm512_dpbusd_epi32(other, _mm512_load_si512(codes + byte + 64),
                                      _mm512_load_si512(job.query + byte + 64));
        }
        if (byte < items.stride) {
          sum = _mm512_dpbusd_epi32(sum, _mm512_load_si512(codes + byte), _mm512_load_si512(job.query + byte));
        }
        sums[i.value] = _mm512_add_epi32(sum, other);
        scale = _mm512_mask_set1_epi32(scale, static_cast<__mmask16>(1U << i.value),
                                       load_bits(items.scale + rows[i.value] * items.scale_stride));
      });
    }
    const __m512i dots = _mm512_add_epi32(sum_each(sums), _mm512_set1_epi32(job.offset));
    __m512 keys = _mm512_mul_ps(_mm512_cvtepi32_ps(dots), _mm512_castsi512_ps(scale));
    if (items.bias != nullptr) {
      __m512i bias = _mm512_setzero_si512();
      unroll<16>([&](auto i) BELFRY_INLINE_BODY {
        bias = _mm512_mask_set1_epi32(bias, static_cast<__mmask16>(1U << i.value),
                                      load_bits(items.bias + rows[i.value] * items.bias_stride));
      });
      keys = _mm512_mul_ps(keys, _mm512_set1_ps(job.l2_scale));
      keys = _mm512_add_ps(keys, _mm512_mul_ps(_mm512_castsi512_ps(bias), _mm512_set1_ps(job.l2_weight)));
    }
    _mm512_store_ps(out, keys);
    return _mm512_cmp_ps_mask(keys, _mm512_set1_ps(floor), _CMP_GT_OQ);
  }

  [[gnu::always_inline]] static inline uint32_t allowed(const WalkJob& job, const uint32_t* list, uint32_t count,
                                                        uint32_t* out) {
    const __mmask16 there = count >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1U << count) - 1);
    const __m512i rows = _mm512_mask_loadu_epi32(_mm512_set1_epi32(-1), there, list);
    const __mmask16 real = _mm512_cmpneq_epi32_mask(rows, _mm512_set1_epi32(-1));
    // Bit r of the filter is bit r & 31 of its 32-bit word r >> 5.
    const __m512i words = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), real, _mm512_srli_epi32(rows, 5),
                                                      reinterpret_cast<const int*>(job.allowed), 4);
    const __m512i bits = _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_and_si512(rows, _mm512_set1_epi32(31)));
    const __mmask16 pass = _mm512_mask_test_epi32_mask(real, words, bits);
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(pass, rows));
    return static_cast<uint32_t>(__builtin_popcount(pass));
  }

  // Behind all entries of at least this key; the rest, up to entry `last`, moves one place.
  [[gnu::always_inline]] static inline uint32_t insert(float* keys, uint32_t* rows, uint32_t size, uint32_t last,
                                                       float key, uint32_t row) {
    const __m512 wanted = _mm512_set1_ps(key);
    uint32_t place = 0;
    for (uint32_t i = 0; i < size; i += 16) {
      const auto better = static_cast<uint32_t>(_mm512_cmp_ps_mask(_mm512_load_ps(keys + i), wanted, _CMP_GE_OQ));
      place += static_cast<uint32_t>(__builtin_popcount(better));
      if (better != 0xffff) break;
    }
    for (uint32_t block = last / 16 + 1; block-- > place / 16;) {
      float* const k = keys + 16 * size_t{block};
      uint32_t* const r = rows + 16 * size_t{block};
      const __m512 moved_keys = _mm512_loadu_ps(k - 1);
      const __m512i moved_rows = _mm512_loadu_si512(r - 1);
      const __mmask16 behind =
          block * 16 > place ? __mmask16{0xffff} : static_cast<__mmask16>(0xfffeU << (place - block * 16));
      _mm512_mask_store_ps(k, behind, moved_keys);
      _mm512_mask_store_epi32(r, behind, moved_rows);
    }
    keys[place] = key;
    rows[place] = row;
    return place;
  }
};

}  // namespace
}  // namespace belfry
