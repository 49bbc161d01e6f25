#pragma once

// The walk's primitives with AVX2. Internal linkage, as in walk_loop.hpp.

#include <immintrin.h>

#include "kernels/unroll.hpp"
#include "kernels/walk_portable.hpp"

namespace belfry {
namespace {

struct WalkAvx2 {
  // Codes and query widened to 16 bits: vpmaddubsw would saturate.
  static inline int32_t dot(const uint8_t* codes, const int8_t* query, size_t count) {
    __m256i even = _mm256_setzero_si256(), odd = even;
    for (size_t i = 0; i < count; i += 32) {
      const __m256i x0 = _mm256_cvtepu8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(codes + i)));
      const __m256i x1 = _mm256_cvtepu8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(codes + i + 16)));
      const __m256i q0 = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(query + i)));
      const __m256i q1 = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(query + i + 16)));
      even = _mm256_add_epi32(even, _mm256_madd_epi16(x0, q0));
      odd = _mm256_add_epi32(odd, _mm256_madd_epi16(x1, q1));
    }
    const __m256i both = _mm256_add_epi32(even, odd);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    four = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 1)));
  }

  template <uint32_t kLines>
  static inline uint32_t above(const WalkJob& job, const CodeRows& items, const uint32_t* rows, float floor,
                               float* out) {
    const size_t bytes = kLines != 0 ? size_t{kLines} * kLineBytes : items.stride;
    uint32_t mask = 0;
    for (uint32_t i = 0; i < kWalkLanes; ++i) {
      out[i] = WalkPortable::key_of(job, items, rows[i], dot(items.codes + rows[i] * items.stride, job.query, bytes));
      mask |= (out[i] > floor ? 1U : 0U) << i;
    }
    return mask;
  }

  static inline uint32_t allowed(const WalkJob& job, const uint32_t* list, uint32_t count, uint32_t* out) {
    return WalkPortable::allowed(job, list, count, out);
  }

  // As on the portable level, with the place counted eight keys at a time.
  static inline uint32_t insert(float* keys, uint32_t* rows, uint32_t size, uint32_t last, float key, uint32_t row) {
    const __m256 wanted = _mm256_set1_ps(key);
    uint32_t place = 0;
    for (uint32_t i = 0; i < size; i += 8) {
      const auto better =
          static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_load_ps(keys + i), wanted, _CMP_GE_OQ)));
      place += static_cast<uint32_t>(__builtin_popcount(better));
      if (better != 0xff) break;
    }
    const size_t moved = last - place;
    __builtin_memmove(keys + place + 1, keys + place, moved * sizeof *keys);
    __builtin_memmove(rows + place + 1, rows + place, moved * sizeof *rows);
    keys[place] = key;
    rows[place] = row;
    return place;
  }
};

}  // namespace
}  // namespace belfry
