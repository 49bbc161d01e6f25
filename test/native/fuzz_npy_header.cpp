// libFuzzer target: no bytes may do anything to the header parser but a header or a belfry::Error.
#include <cstddef>
#include <cstdint>

#include "core/error.hpp"
#include "storage/npy_header.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const belfry::NpyHeader header = belfry::parse_npy_header(data, size, "fuzz");
    if (header.data_offset > size || header.items() > (uint64_t{1} << 60)) __builtin_trap();
  } catch (const belfry::Error&) {
    // refused: fine
  }
  return 0;
}
