#include "index/item_codes.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/thread_pool.hpp"

namespace belfry {

namespace {

constexpr uint32_t kChunkRows = 4096;  // rows of one task; a multiple of kTileRows
constexpr double kRoundUp = 1 + 1e-6;
// Covers f32 underflow in the bounds of rows that are tiny beside the largest one.
constexpr double kTiny = 1e-30;

class RowReader {
 public:
  RowReader(const VectorSource& vectors, const KernelTable& kernel)
      : vectors_(vectors), kernel_(kernel), buffer_(vectors.dims) {}

  const float* read(uint32_t row) {
    if (vectors_.format == RowFormat::kF16) {
      kernel_.widen_f16(vectors_.row(row), buffer_.data(), vectors_.dims);
    } else {
      std::memcpy(buffer_.data(), vectors_.row(row), size_t{vectors_.dims} * 4);
    }
    return buffer_.data();
  }

 private:
  const VectorSource& vectors_;
  const KernelTable& kernel_;
  std::vector<float> buffer_;
};

float largest_magnitude(const float* x, uint32_t dims) {
  float largest = 0;
  float check = 0;  // becomes NaN as soon as one value is not finite
  for (uint32_t i = 0; i < dims; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    check += x[i] * 0.0F;
  }
  return check == 0.0F ? largest : std::numeric_limits<float>::infinity();
}

}  // namespace

ItemCodes::ItemCodes(const VectorSource& vectors, Metric metric, const KernelTable& kernel, size_t threads,
                     const uint32_t* order, std::optional<int> exponent)
    : dims_(vectors.dims), padded_rows_((vectors.rows + kTileRows - 1) / kTileRows * kTileRows) {
  const uint32_t dims = vectors.dims;
  const size_t chunks = (size_t{vectors.rows} + kChunkRows - 1) / kChunkRows;
  ThreadPool& pool = ThreadPool::instance();

  std::vector<float> chunk_largest(chunks, 0.0F);
  pool.parallel_for(chunks, threads, [&](size_t chunk) {
    RowReader reader(vectors, kernel);
    const uint32_t first = static_cast<uint32_t>(chunk) * kChunkRows;
    const uint32_t end = std::min(vectors.rows, first + kChunkRows);
    for (uint32_t row = first; row < end; ++row) {
      const float largest = largest_magnitude(reader.read(row), dims);
      if (!std::isfinite(largest)) {
        throw Error(codes::kBadVector, "vectors: row " + std::to_string(row) +
                                           " holds NaN or an infinite value; remove or repair it in the export");
      }
      chunk_largest[chunk] = std::max(chunk_largest[chunk], largest);
    }
  });
  float largest = 0;
  for (float value : chunk_largest) largest = std::max(largest, value);
  if (metric != Metric::kCosine && largest > 0) (void)std::frexp(largest, &exponent_);
  exponent_ = exponent.value_or(exponent_);

  const size_t stride = code_stride(dims);
  codes_ = AlignedBuffer<uint8_t>(padded_rows_ * stride);
  scale_ = AlignedBuffer<float>(padded_rows_);
  error_ = AlignedBuffer<float>(padded_rows_);
  norm_ = AlignedBuffer<float>(padded_rows_);
  if (metric == Metric::kL2) bias_ = AlignedBuffer<float>(padded_rows_);

  const double shrink = std::ldexp(1.0, -exponent_);
  pool.parallel_for(chunks, threads, [&](size_t chunk) {
    RowReader reader(vectors, kernel);
    const uint32_t first = static_cast<uint32_t>(chunk) * kChunkRows;
    const uint32_t end = std::min(vectors.rows, first + kChunkRows);
    for (uint32_t row = first; row < end; ++row) {
      const float* x = reader.read(order == nullptr ? row : order[row]);
      const double row_largest = largest_magnitude(x, dims);
      const double step = row_largest / 127;
      const double inverse = step > 0 ? 1 / step : 0;
      uint8_t* to = codes_.data() + row * stride;
      double squares = 0, lost = 0;
      for (uint32_t i = 0; i < dims; ++i) {
        const double value = x[i];
        const int code = static_cast<int>(std::lrint(value * inverse));  // within -127..127 by construction
        const double error = value - step * code;
        squares += value * value;
        lost += error * error;
        to[i] = static_cast<uint8_t>(code + 128);
      }
      std::memset(to + dims, 128, stride - dims);
      const double norm = std::sqrt(squares);
      const double unit = metric == Metric::kCosine ? (norm > 0 ? 1 / norm : 0.0) : shrink;
      scale_[row] = static_cast<float>(step * unit);
      error_[row] = static_cast<float>(std::sqrt(lost) * unit * kRoundUp + kTiny);
      norm_[row] = static_cast<float>(norm * unit * kRoundUp + kTiny);
      if (metric == Metric::kL2) bias_[row] = static_cast<float>(-squares * unit * unit);
      if (scale_in_row()) std::memcpy(to + stride - 4, &scale_[row], 4);
      if (bias_in_row()) std::memcpy(to + stride - 8, &bias_[row], 4);
    }
  });
}

CodeView ItemCodes::view() const noexcept {
  const size_t stride = code_stride(dims_);
  const auto place = [&](bool in_row, size_t from_end, const AlignedBuffer<float>& array) {
    return in_row ? codes_.data() + stride - from_end : reinterpret_cast<const unsigned char*>(array.data());
  };
  const CodeRows rows{codes_.data(),
                      stride,
                      place(scale_in_row(), 4, scale_),
                      scale_in_row() ? stride : sizeof(float),
                      place(bias_in_row(), 8, bias_),
                      bias_in_row() ? stride : sizeof(float),
                      dims_};
  return {rows, scale_.data(), bias_.data(), error_.data(), norm_.data()};
}

size_t ItemCodes::bytes() const noexcept {
  return codes_.bytes() + scale_.bytes() + bias_.bytes() + error_.bytes() + norm_.bytes();
}

}  // namespace belfry
