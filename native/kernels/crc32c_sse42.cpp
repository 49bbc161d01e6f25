// Compiled with -msse4.2; see kernels.hpp for why nothing inline is shared with the baseline.
#include <immintrin.h>

#include <cstring>

#include "kernels/crc32c.hpp"

namespace belfry::kernels::crc32c_sse42 {

namespace {

// Below this the two multiplications that join three streams cost more than they win.
constexpr size_t kThreeStreamsFrom = size_t{16} << 10;

uint64_t load(const unsigned char* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

}  // namespace

uint32_t update(uint32_t raw, const unsigned char* bytes, size_t count) {
  uint64_t sum = raw;
  if (count >= kThreeStreamsFrom) {
    // The instruction takes three cycles and starts every cycle: three thirds side by side keep it busy.
    const size_t third = count / 24 * 8;
    uint64_t second = 0, last = 0;
    for (size_t i = 0; i < third; i += 8) {
      sum = _mm_crc32_u64(sum, load(bytes + i));
      second = _mm_crc32_u64(second, load(bytes + third + i));
      last = _mm_crc32_u64(last, load(bytes + 2 * third + i));
    }
    sum = crc32c_portable::shift(static_cast<uint32_t>(sum), third) ^ second;
    sum = crc32c_portable::shift(static_cast<uint32_t>(sum), third) ^ last;
    bytes += 3 * third;
    count -= 3 * third;
  }
  for (; count >= 8; bytes += 8, count -= 8) sum = _mm_crc32_u64(sum, load(bytes));
  auto rest = static_cast<uint32_t>(sum);
  for (; count > 0; ++bytes, --count) rest = _mm_crc32_u8(rest, *bytes);
  return rest;
}

}  // namespace belfry::kernels::crc32c_sse42
