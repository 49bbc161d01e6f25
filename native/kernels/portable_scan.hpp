#pragma once

// The scalar end of a scan: keys and survivors from integer sums. Everything has internal linkage, because each level
// that includes this compiles it with its own instruction set.

#include <cstdint>

#include "kernels/kernels.hpp"

namespace belfry {
namespace {

template <bool kL2, bool kBound>
[[maybe_unused]] inline float scan_key(const ScanJob& job, uint32_t q, uint32_t row, int32_t sum) {
  float key = static_cast<float>(sum) * job.items.scale[row];
  if constexpr (kL2) {
    key = key * job.l2_scale[q];
    key = key + job.items.bias[row] * job.l2_weight[q];
  }
  if constexpr (kBound) {
    key = key + (job.error_weight[q] * job.items.error[row] + job.norm_weight[q] * job.items.norm[row]);
  }
  return key;
}

template <bool kL2, bool kBound>
[[maybe_unused]] inline void admit_block(const ScanJob& job, uint32_t q, uint32_t row, uint32_t allowed,
                                         const int32_t sums[kBlockRows]) {
  Candidates& list = job.lists[q];
  const float threshold = job.thresholds[q];
  for (uint32_t r = 0; r < kBlockRows; ++r) {
    const float key = scan_key<kL2, kBound>(job, q, row + r, sums[r]);
    if (key > threshold && ((allowed >> r) & 1U) != 0) {
      list.keys[list.size] = key;
      list.rows[list.size++] = row + r;
    }
  }
}

[[maybe_unused]] inline void prune_if_full(const ScanJob& job, uint32_t q) {
  Candidates& list = job.lists[q];
  if (list.size >= list.capacity) job.thresholds[q] = list.prune(&list);
}

// From sums to the metric's larger-is-better score. A zero vector has cosine 0 with everything.
[[maybe_unused]] inline double finish_score(const ScoreJob& job, double sum, double squares) {
  if (job.score == RowScore::kL2) return -sum;
  if (job.score == RowScore::kIp) return sum;
  const double norms = job.query_norm * __builtin_sqrt(squares);
  return norms > 0.0 ? sum / norms : 0.0;
}

}  // namespace
}  // namespace belfry
