#pragma once

// The six tile instructions that the AMX level uses. With BELFRY_AMX_EMULATE they are plain C++ on eight arrays, so the
// same kernel source is tested bit for bit on a CPU that has no AMX. Internal linkage throughout.

#include <cstddef>
#include <cstdint>

#if !defined(BELFRY_AMX_EMULATE)
#include <immintrin.h>
#endif

namespace belfry {
namespace {
namespace tile {

// All eight tiles are 16 rows of 64 bytes.
struct alignas(64) Config {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

#if defined(BELFRY_AMX_EMULATE)

inline thread_local unsigned char registers[8][16][64];

inline void configure(const Config&) {}
inline void release() {}
template <int kTile>
inline void zero() {
  __builtin_memset(registers[kTile], 0, sizeof registers[kTile]);
}
template <int kTile>
inline void load(const void* from, size_t stride) {
  for (size_t r = 0; r < 16; ++r) {
    __builtin_memcpy(registers[kTile][r], static_cast<const unsigned char*>(from) + r * stride, 64);
  }
}
template <int kTile>
inline void store(void* to, size_t stride) {
  for (size_t r = 0; r < 16; ++r) {
    __builtin_memcpy(static_cast<unsigned char*>(to) + r * stride, registers[kTile][r], 64);
  }
}
// TDPBSUD: to[m][n] += sum over k and i of signed a[m][4k+i] * unsigned b[k][4n+i].
template <int kTo, int kA, int kB>
inline void dot_signed_unsigned() {
  for (size_t m = 0; m < 16; ++m) {
    for (size_t n = 0; n < 16; ++n) {
      int32_t sum;
      __builtin_memcpy(&sum, &registers[kTo][m][4 * n], sizeof sum);
      for (size_t k = 0; k < 16; ++k) {
        for (size_t i = 0; i < 4; ++i) {
          sum += int32_t{static_cast<int8_t>(registers[kA][m][4 * k + i])} * int32_t{registers[kB][k][4 * n + i]};
        }
      }
      __builtin_memcpy(&registers[kTo][m][4 * n], &sum, sizeof sum);
    }
  }
}

#else

inline void configure(const Config& config) { _tile_loadconfig(&config); }
inline void release() { _tile_release(); }
// The intrinsics are macros that want literal tile numbers; a template argument is one after substitution.
#define BELFRY_TILE_OP(number)                                \
  template <>                                                 \
  inline void zero<number>() {                                \
    _tile_zero(number);                                       \
  }                                                           \
  template <>                                                 \
  inline void load<number>(const void* from, size_t stride) { \
    _tile_loadd(number, from, stride);                        \
  }                                                           \
  template <>                                                 \
  inline void store<number>(void* to, size_t stride) {        \
    _tile_stored(number, to, stride);                         \
  }
template <int kTile>
inline void zero();
template <int kTile>
inline void load(const void* from, size_t stride);
template <int kTile>
inline void store(void* to, size_t stride);
BELFRY_TILE_OP(0)
BELFRY_TILE_OP(1)
BELFRY_TILE_OP(2)
BELFRY_TILE_OP(3)
BELFRY_TILE_OP(4)
BELFRY_TILE_OP(5)
BELFRY_TILE_OP(6)
BELFRY_TILE_OP(7)
#undef BELFRY_TILE_OP

template <int kTo, int kA, int kB>
inline void dot_signed_unsigned();
#define BELFRY_TILE_DOT(to, a, b)               \
  template <>                                   \
  inline void dot_signed_unsigned<to, a, b>() { \
    _tile_dpbsud(to, a, b);                     \
  }
BELFRY_TILE_DOT(0, 4, 6)
BELFRY_TILE_DOT(1, 4, 7)
BELFRY_TILE_DOT(2, 5, 6)
BELFRY_TILE_DOT(3, 5, 7)
#undef BELFRY_TILE_DOT

#endif

}  // namespace tile
}  // namespace
}  // namespace belfry
