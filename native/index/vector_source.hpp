#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernels.hpp"

namespace belfry {

// Row-major f32 or f16 vectors in memory that somebody else owns: a mapped file, or a converted copy.
struct VectorSource {
  std::shared_ptr<const void> owner;
  const unsigned char* base = nullptr;
  size_t row_bytes = 0;
  RowFormat format = RowFormat::kF32;
  uint32_t rows = 0;
  uint32_t dims = 0;

  const unsigned char* row(uint32_t index) const noexcept { return base + size_t{index} * row_bytes; }
};

}  // namespace belfry
