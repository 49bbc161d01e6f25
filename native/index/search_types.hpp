#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/exclusions.hpp"
#include "core/row_filter.hpp"

namespace belfry {

enum class SearchMode : uint8_t {
  kCodes,  // 8-bit scan, the best `rescore` rows scored from the vectors
  kExact,  // 8-bit scan, every row whose bound reaches the k-th score scored from the vectors: provably the true top k
  kF32,    // every row scored from the vectors; the judge of the other two
};

struct SearchParams {
  uint32_t k = 10;
  SearchMode mode = SearchMode::kExact;
  uint32_t rescore = 30;                   // mode codes only; at least k
  const RowFilter* filter = nullptr;       // null: every row may be returned
  const Exclusions* exclusions = nullptr;  // rows that single queries, or all of them, must not return; null: none
};

// count x k; the first counts[q] entries of each query are hits, best first.
struct Hits {
  std::vector<uint32_t> rows;
  std::vector<float> scores;
  std::vector<uint32_t> counts;
};

}  // namespace belfry
