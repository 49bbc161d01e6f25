#pragma once

#include <cstdint>
#include <vector>

#include "core/aligned_buffer.hpp"
#include "core/metric.hpp"
#include "kernels/kernels.hpp"
#include "kernels/walk_job.hpp"

namespace belfry {

// 8-bit codes of a batch of queries, and per query the factors that ScanJob asks for.
//
// A query is s * c + e. Keys are scores in units that suit f32:
//   ip:     <q, x> / (s * 2^exponent)          cosine: cos * |q| / s
//   l2:     (2 <q', x'> - |x'|^2) / g,  where ' is division by 2^exponent and g = max(1, |q'|)
// For every row, |key of the codes - true key| <= error_weight * error[row] + norm_weight * norm[row]
// (Cauchy-Schwarz on the two coding errors, plus slack for f32 rounding).
class QueryCodes {
 public:
  // `window`: KernelTable::query_window of the scan that they are for. It makes codes coarser; the bounds stay true.
  QueryCodes(const float* queries, size_t count, uint32_t dims, Metric metric, int exponent, uint32_t window);

  size_t count() const noexcept { return count_; }
  // Fills the query side of a job for queries first .. first + count - 1.
  void fill(ScanJob& job, size_t first, size_t count) const noexcept;

  // Fills the query side of a walk for query q.
  void fill(WalkJob& job, size_t q) const noexcept;
  // `base` such that base - key is, times a constant, the squared distance of query q and a row; for inner product that
  // of the vectors lifted onto a sphere of radius `largest_norm`, with the query of the same norm.
  double distance_base(size_t q, double largest_norm) const noexcept { return base_[q] * (is_ip_ ? largest_norm : 1); }

  double error_weight(size_t q) const noexcept { return error_weight_[q]; }
  double norm_weight(size_t q) const noexcept { return norm_weight_[q]; }
  // What f64 rounding can take from a score or add to it beyond the two bounds above, in units of keys.
  double margin(size_t q) const noexcept { return margin_[q]; }
  // A true score as a key, rounded down by more than f64 can have lost on the way.
  double key_below(size_t q, double score) const noexcept { return (score * unit_[q] + shift_[q]) - margin_[q]; }

 private:
  size_t count_;
  size_t stride_;
  AlignedBuffer<int8_t> codes_;
  std::vector<int32_t> offsets_;
  std::vector<float> l2_scale_, l2_weight_, error_weight_, norm_weight_;
  std::vector<double> unit_, shift_, margin_, base_;
  bool is_ip_;
};

}  // namespace belfry
