#include "kernels/crc32c.hpp"

#include <array>

namespace belfry {

namespace kernels::crc32c_portable {

namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // bit-reflected: bit 31 is x^0

using Table = std::array<std::array<uint32_t, 256>, 8>;

// Table k takes a byte that stands k bytes before the end of a group of eight ("slicing by 8").
constexpr Table make_table() {
  Table table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1U) != 0 ? kPolynomial : 0);
    table[0][byte] = value;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t last = table[k - 1][byte];
      table[k][byte] = (last >> 8) ^ table[0][last & 0xff];
    }
  }
  return table;
}
constexpr Table kTable = make_table();

constexpr uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = uint32_t{1} << 31; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = (b >> 1) ^ ((b & 1U) != 0 ? kPolynomial : 0);
  }
  return product;
}

}  // namespace

uint32_t update(uint32_t raw, const unsigned char* bytes, size_t count) {
  for (; count >= 8; bytes += 8, count -= 8) {
    const uint32_t low =
        raw ^ (uint32_t{bytes[0]} | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24);
    raw = kTable[7][low & 0xff] ^ kTable[6][(low >> 8) & 0xff] ^ kTable[5][(low >> 16) & 0xff] ^ kTable[4][low >> 24] ^
          kTable[3][bytes[4]] ^ kTable[2][bytes[5]] ^ kTable[1][bytes[6]] ^ kTable[0][bytes[7]];
  }
  for (; count > 0; ++bytes, --count) raw = (raw >> 8) ^ kTable[0][(raw ^ *bytes) & 0xff];
  return raw;
}

uint32_t shift(uint32_t raw, uint64_t zero_bytes) {
  uint32_t power = uint32_t{1} << 23;  // x^8
  for (; zero_bytes != 0; zero_bytes >>= 1) {
    if ((zero_bytes & 1) != 0) raw = multiply(raw, power);
    power = multiply(power, power);
  }
  return raw;
}

}  // namespace kernels::crc32c_portable

uint32_t crc32c(const void* bytes, size_t count, uint32_t before) {
#if defined(BELFRY_HAS_SSE42)
  // Once; SSE registers are saved by every x86-64 system, so CPUID alone decides.
  static const auto update =
      __builtin_cpu_supports("sse4.2") ? kernels::crc32c_sse42::update : kernels::crc32c_portable::update;
#else
  constexpr auto update = kernels::crc32c_portable::update;
#endif
  return ~update(~before, static_cast<const unsigned char*>(bytes), count);
}

uint32_t crc32c_combine(uint32_t a, uint32_t b, uint64_t b_bytes) {
  return kernels::crc32c_portable::shift(a, b_bytes) ^ b;
}

}  // namespace belfry
