#pragma once

#include <cstdint>

namespace belfry {

// Scores are larger-is-better: inner product, cosine, and minus the squared Euclidean distance.
enum class Metric : uint8_t { kIp, kCosine, kL2 };

inline constexpr uint32_t kDimsMax = 4096;
inline constexpr uint32_t kKMax = 10'000;
inline constexpr uint32_t kEfMax = 16'384;  // rows that a walk may keep; beyond it a scan is cheaper
// Row numbers are u32, and the end of the last tile, chunk or split (up to 64 rows more for each of 1,024 threads) must
// not wrap.
inline constexpr uint64_t kRowsMax = (uint64_t{1} << 32) - (uint64_t{1} << 17);

}  // namespace belfry
