#pragma once

#include <cstddef>
#include <cstdint>

#include "storage/npy_header.hpp"

namespace belfry {

// An unsigned number of 1, 2, 4 or 8 bytes in either byte order, from any address.
inline uint64_t load_bits(const unsigned char* from, uint32_t bytes, bool big_endian) noexcept {
  uint64_t bits = 0;
  for (uint32_t i = 0; i < bytes; ++i) bits |= uint64_t{from[i]} << (8 * (big_endian ? bytes - 1 - i : i));
  return bits;
}

// Converts `count` consecutive f2, f4 or f8 values in either byte order to f32. An f8 that overflows becomes infinite;
// the return value counts those (they were finite before).
size_t to_f32_values(const NpyHeader& header, const unsigned char* from, float* to, size_t count);

// Copies `count` f2 values as little-endian halves.
void to_f16_words(const NpyHeader& header, const unsigned char* from, uint16_t* to, size_t count);

}  // namespace belfry
