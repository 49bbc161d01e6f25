#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace belfry {

// What the header of a .npy file says. Everything in it has been checked except the size of the file.
struct NpyHeader {
  int version = 1;  // 1 to 3
  char kind = 'f';  // f, i or u
  uint32_t item_bytes = 4;
  bool big_endian = false;
  bool fortran_order = false;
  std::vector<uint64_t> shape;
  uint64_t data_offset = 0;

  std::string dtype() const { return kind + std::to_string(item_bytes); }
  uint64_t items() const noexcept;
  uint64_t data_bytes() const noexcept { return items() * item_bytes; }
};

inline constexpr size_t kNpyHeaderMax = 10'000;  // bytes of the header text
// The longest prefix that parse_npy_header looks at.
inline constexpr size_t kNpyPrefixMax = kNpyHeaderMax + 12;

// Parses the first bytes of a file: all of it, or at least kNpyPrefixMax. `name` is for messages. Throws
// BELFRY_NPY_INVALID (with the offset) or BELFRY_NPY_UNSUPPORTED. Never evaluates what it reads.
NpyHeader parse_npy_header(const unsigned char* bytes, size_t count, const std::string& name);

// The header of a little-endian C-order matrix, padded so that data starts on a 64-byte border.
std::string format_npy_header(char kind, uint32_t item_bytes, uint64_t rows, uint64_t dims);

}  // namespace belfry
