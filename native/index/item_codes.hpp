#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/aligned_buffer.hpp"
#include "core/metric.hpp"
#include "index/vector_source.hpp"
#include "kernels/kernels.hpp"

namespace belfry {

// Bytes from one row of codes to the next, for items and for queries: whole cache lines.
constexpr size_t code_stride(uint32_t dims) noexcept { return (size_t{dims} + 63) / 64 * 64; }

// 8-bit codes of all rows, row by row, with what is needed to turn an integer sum into a score and into a bound. The
// one copy of them: the scan, the walk and the build of a graph all read it.
//
// Rows are coded as x = scale * c + e with c in -127..127. The arrays hold numbers divided by a common power of two
// (`exponent`), or by the row's norm for cosine, so that f32 neither overflows nor loses small rows:
//   ip, l2: scale, |e|, |x| times 2^-exponent; bias = -|x|^2 times 2^-2exponent
//   cosine: scale / |x|, |e| / |x|, 1; a zero row has 0 everywhere
// error and norm are rounded up by far more than f32 rounding, because the exact mode relies on them as bounds.
class ItemCodes {
 public:
  ItemCodes() = default;
  // Reads every row, in parallel. Row i of the codes is row order[i] of the vectors; null: row i. Throws
  // BELFRY_BAD_VECTOR, which names the row of the vectors, for one that is not finite. `exponent`: use this one, not
  // the one that suits these vectors, so that keys compare with those of other codes.
  ItemCodes(const VectorSource& vectors, Metric metric, const KernelTable& kernel, size_t threads,
            const uint32_t* order = nullptr, std::optional<int> exponent = {});

  CodeView view() const noexcept;
  int exponent() const noexcept { return exponent_; }
  uint32_t padded_rows() const noexcept { return padded_rows_; }
  size_t bytes() const noexcept;

 private:
  bool scale_in_row() const noexcept { return code_stride(dims_) - dims_ >= 4; }
  bool bias_in_row() const noexcept { return bias_.size() != 0 && code_stride(dims_) - dims_ >= 8; }

  AlignedBuffer<uint8_t> codes_;
  AlignedBuffer<float> scale_, bias_, error_, norm_;
  uint32_t dims_ = 0;
  uint32_t padded_rows_ = 0;
  int exponent_ = 0;
};

}  // namespace belfry
