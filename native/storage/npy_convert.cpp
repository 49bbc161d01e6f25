#include "storage/npy_convert.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu.hpp"

namespace belfry {

namespace {

template <class Word>
Word swap_bytes(Word word) noexcept {
  if constexpr (sizeof(Word) == 2) return static_cast<Word>(__builtin_bswap16(word));
  if constexpr (sizeof(Word) == 4) return __builtin_bswap32(word);
  if constexpr (sizeof(Word) == 8) return __builtin_bswap64(word);
}

template <class Word>
Word load_word(const unsigned char* from, bool swap) noexcept {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return swap ? swap_bytes(word) : word;
}

constexpr bool kHostBig = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

}  // namespace

size_t to_f32_values(const NpyHeader& header, const unsigned char* from, float* to, size_t count) {
  const bool swap = header.big_endian != kHostBig;
  if (header.item_bytes == 4) {
    if (!swap) {
      std::memcpy(to, from, count * 4);
      return 0;
    }
    for (size_t i = 0; i < count; ++i) {
      const uint32_t word = load_word<uint32_t>(from + 4 * i, true);
      std::memcpy(to + i, &word, 4);
    }
    return 0;
  }
  if (header.item_bytes == 2) {
    const KernelTable& kernel = *available_kernels().front();
    if (!swap) {
      kernel.widen_f16(from, to, count);
      return 0;
    }
    uint16_t words[256];
    for (size_t i = 0; i < count; i += 256) {
      const size_t part = count - i < 256 ? count - i : 256;
      for (size_t j = 0; j < part; ++j) words[j] = load_word<uint16_t>(from + 2 * (i + j), true);
      kernel.widen_f16(reinterpret_cast<const unsigned char*>(words), to + i, part);
    }
    return 0;
  }
  size_t overflows = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint64_t word = load_word<uint64_t>(from + 8 * i, swap);
    double value;
    std::memcpy(&value, &word, 8);
    // Half a unit in the last place above FLT_MAX rounds to infinity; the cast itself would be undefined there.
    constexpr double kLimit = 0x1.ffffffp127;
    if (std::fabs(value) >= kLimit && std::isfinite(value)) {
      to[i] = std::copysign(std::numeric_limits<float>::infinity(), static_cast<float>(value > 0 ? 1 : -1));
      ++overflows;
    } else {
      to[i] = static_cast<float>(value);
    }
  }
  return overflows;
}

void to_f16_words(const NpyHeader& header, const unsigned char* from, uint16_t* to, size_t count) {
  const bool swap = header.big_endian != kHostBig;
  for (size_t i = 0; i < count; ++i) to[i] = load_word<uint16_t>(from + 2 * i, swap);
}

}  // namespace belfry
