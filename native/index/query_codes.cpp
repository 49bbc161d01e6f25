#include "index/query_codes.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "index/item_codes.hpp"

namespace belfry {

namespace {

// f32 rounding in a key: about ten roundings of at most 2^-24 each, taken as 2^-20 of the largest term.
constexpr double kRounding = 1.0 / (1 << 20);
// |x'| <= 64: components are below 1 and there are at most 4,096 of them. Bounds |x'|^2 by 64 |x'|.
constexpr double kNormMax = 64;
constexpr size_t kTileQueriesMax = 32;

// The largest sum of codes of one sign that 16 bits of a kernel would have to hold (KernelTable::query_window).
int32_t largest_window_sum(const float* query, uint32_t dims, double inverse, uint32_t window) {
  int32_t largest = 0;
  for (uint32_t begin = 0; begin < dims; begin += 4 * window) {
    int32_t sums[2][2] = {};  // of dims with d mod 4 in {0, 1} and in {2, 3}; of each sign
    for (uint32_t d = begin; d < std::min(dims, begin + 4 * window); ++d) {
      const int code = static_cast<int>(std::lrint(double{query[d]} * inverse));
      sums[d / 2 % 2][code < 0 ? 1 : 0] += std::abs(code);
    }
    for (const auto& lane : sums) largest = std::max({largest, lane[0], lane[1]});
  }
  return largest;
}

// By how much a step must grow so that no window sum passes the limit. Rounding may undo a part of it, so it is tried.
double coarsening(const float* query, uint32_t dims, double inverse, uint32_t window) {
  double factor = 1;
  for (;;) {
    const int32_t sum = largest_window_sum(query, dims, inverse / factor, window);
    if (sum <= kWindowSumMax) return factor;
    factor *= std::max(1.01, static_cast<double>(sum) / kWindowSumMax);
  }
}

}  // namespace

QueryCodes::QueryCodes(const float* queries, size_t count, uint32_t dims, Metric metric, int exponent, uint32_t window)
    : count_(count),
      stride_(code_stride(dims)),
      codes_((count + kTileQueriesMax) * stride_ + kSlackBytes),
      offsets_(count),
      l2_scale_(count),
      l2_weight_(count),
      error_weight_(count),
      norm_weight_(count),
      unit_(count),
      shift_(count),
      margin_(count),
      base_(count),
      is_ip_(metric == Metric::kIp) {
  const double shrink = std::ldexp(1.0, -exponent);
  for (size_t q = 0; q < count; ++q) {
    const float* from = queries + q * dims;
    float largest = 0;
    for (uint32_t i = 0; i < dims; ++i) largest = std::max(largest, std::fabs(from[i]));
    int8_t* to = codes_.data() + q * stride_;
    double step = double{largest} / 127;
    if (window != 0 && step > 0) step *= coarsening(from, dims, 1 / step, window);
    const double inverse = step > 0 ? 1 / step : 0;
    int32_t sum = 0;
    int64_t code_squares = 0;
    double lost = 0, squares = 0;  // lost: in units of step
    for (uint32_t i = 0; i < dims; ++i) {
      const double scaled = double{from[i]} * inverse;
      const int code = static_cast<int>(std::lrint(scaled));
      to[i] = static_cast<int8_t>(code);
      sum += code;
      code_squares += code * code;
      lost += (scaled - code) * (scaled - code);
      squares += scaled * scaled;
    }
    offsets_[q] = -128 * sum;
    const double code_norm = std::sqrt(static_cast<double>(code_squares));
    const double lost_norm = std::sqrt(lost);
    double error_weight = code_norm;
    double norm_weight = lost_norm + kRounding * (code_norm + lost_norm);
    base_[q] = std::sqrt(squares);
    if (metric == Metric::kL2) {
      const double norm = step * shrink * std::sqrt(squares);  // |q'|
      const double g = std::max(1.0, norm);
      const double factor = 2 * step * shrink / g;
      l2_scale_[q] = static_cast<float>(factor);
      l2_weight_[q] = static_cast<float>(1 / g);
      error_weight *= factor;
      norm_weight = norm_weight * factor + kRounding * kNormMax / g;
      unit_[q] = shrink * shrink / g;
      shift_[q] = norm * (norm / g);
      margin_[q] = 1e-12 * shift_[q];
      base_[q] = shift_[q];
    } else if (metric == Metric::kCosine) {
      unit_[q] = std::sqrt(squares);
    } else {
      unit_[q] = inverse * shrink;
    }
    error_weight_[q] = static_cast<float>(error_weight * (1 + 1e-6));
    norm_weight_[q] = static_cast<float>(norm_weight * (1 + 1e-6));
  }
}

void QueryCodes::fill(ScanJob& job, size_t first, size_t count) const noexcept {
  job.count = static_cast<uint32_t>(count);
  job.query_codes = codes_.data() + first * stride_;
  job.offsets = offsets_.data() + first;
  job.l2_scale = l2_scale_.data() + first;
  job.l2_weight = l2_weight_.data() + first;
  job.error_weight = error_weight_.data() + first;
  job.norm_weight = norm_weight_.data() + first;
}

void QueryCodes::fill(WalkJob& job, size_t q) const noexcept {
  job.query = codes_.data() + q * stride_;
  job.offset = offsets_[q];
  job.l2_scale = l2_scale_[q];
  job.l2_weight = l2_weight_[q];
}

}  // namespace belfry
