#include <string>
#include <vector>

#include "check.hpp"
#include "kernels/crc32c.hpp"

namespace {

using namespace belfry;

// The definition: one bit at a time.
uint32_t bitwise(const unsigned char* bytes, size_t count) {
  uint32_t raw = ~0U;
  for (size_t i = 0; i < count; ++i) {
    raw ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) raw = (raw >> 1) ^ ((raw & 1U) != 0 ? 0x82f63b78U : 0);
  }
  return ~raw;
}

TEST(crc32c_of_known_texts) {
  const std::string digits = "123456789";
  CHECK(crc32c(digits.data(), digits.size()) == 0xe3069283U);
  // RFC 3720, B.4
  std::vector<unsigned char> bytes(32);
  CHECK(crc32c(bytes.data(), bytes.size()) == 0x8a9136aaU);
  for (size_t i = 0; i < 32; ++i) bytes[i] = 0xff;
  CHECK(crc32c(bytes.data(), bytes.size()) == 0x62a8ab43U);
  for (size_t i = 0; i < 32; ++i) bytes[i] = static_cast<unsigned char>(i);
  CHECK(crc32c(bytes.data(), bytes.size()) == 0x46dd794eU);
  CHECK(crc32c(nullptr, 0) == 0);
}

TEST(crc32c_levels_agree_at_every_length_and_border) {
  std::mt19937 random(belfry::test::seed(3));
  std::vector<unsigned char> bytes(200'000);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
  std::vector<size_t> lengths;
  for (size_t i = 0; i < 300; ++i) lengths.push_back(i);
  for (size_t i = 16'370; i < 16'440; ++i) lengths.push_back(i);  // around the start of three streams
  for (const size_t length : {65'536U, 100'003U, 199'990U}) lengths.push_back(length);
  for (const size_t length : lengths) {
    const unsigned char* from = bytes.data() + random() % 9;
    const uint32_t right = bitwise(from, length);
    CHECK(~kernels::crc32c_portable::update(~0U, from, length) == right);
    CHECK(crc32c(from, length) == right);
    const size_t cut = length == 0 ? 0 : random() % length;
    CHECK(crc32c(from + cut, length - cut, crc32c(from, cut)) == right);
    CHECK(crc32c_combine(crc32c(from, cut), crc32c(from + cut, length - cut), length - cut) == right);
  }
}

}  // namespace
