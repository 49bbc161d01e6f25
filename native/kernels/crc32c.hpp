#pragma once

#include <cstddef>
#include <cstdint>

namespace belfry {

// CRC-32C (Castagnoli polynomial, RFC 3720 appendix B.4) of `count` bytes. `before` is the checksum of the bytes that
// came earlier: crc32c(ab) == crc32c(b, crc32c(a)). Uses the CPU's instruction where it has one.
uint32_t crc32c(const void* bytes, size_t count, uint32_t before = 0);

// The checksum of A followed by B, from the checksums of both and the length of B: pieces may be summed in parallel.
uint32_t crc32c_combine(uint32_t a, uint32_t b, uint64_t b_bytes);

// The levels. They update a raw register, which starts at and ends with the complement of a checksum.
namespace kernels {
namespace crc32c_portable {
uint32_t update(uint32_t raw, const unsigned char* bytes, size_t count);
// raw * x^(8 * zero_bytes) modulo the polynomial: what `zero_bytes` zero bytes do to the register.
uint32_t shift(uint32_t raw, uint64_t zero_bytes);
}  // namespace crc32c_portable
namespace crc32c_sse42 {
uint32_t update(uint32_t raw, const unsigned char* bytes, size_t count);
}
}  // namespace kernels

}  // namespace belfry
