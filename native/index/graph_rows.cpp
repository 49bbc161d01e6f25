#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "core/error.hpp"
#include "core/thread_pool.hpp"
#include "index/graph_stages.hpp"

namespace belfry::graph_build {

void Context::check() const {
  if (progress.cancelled.load(std::memory_order_relaxed)) {
    throw Error(codes::kClosed, "graph: the build was cancelled");
  }
}

void Context::for_rows(uint32_t rows, uint64_t work_per_row,
                       const std::function<void(uint32_t, uint32_t)>& body) const {
  const size_t chunks = (size_t{rows} + kChunkRows - 1) / kChunkRows;
  ThreadPool::instance().parallel_for(chunks, options.threads, [&](size_t chunk) {
    check();
    const auto first = static_cast<uint32_t>(chunk * kChunkRows);
    const uint32_t end = std::min(rows, first + kChunkRows);
    body(first, end);
    advance(work_per_row * (end - first));
  });
}

void read_vector(const Context& context, const VectorSource& source, uint32_t row, float* to) {
  if (source.format == RowFormat::kF16) {
    context.kernel.widen_f16(source.row(row), to, source.dims);
  } else {
    std::memcpy(to, source.row(row), size_t{source.dims} * sizeof(float));
  }
}

CodedRows::CodedRows(uint32_t row_count, uint32_t dims)
    : rows(row_count),
      groups((dims + 3) / 4),
      stride((size_t{dims} + 63) / 64 * 64),
      codes(row_count * stride),
      scale(row_count),
      norm(row_count),
      offset(row_count),
      squares(row_count) {}

bool CodedRows::encode(uint32_t r, const float* x, uint32_t dims) noexcept {
  float largest = 0, check = 0;  // check becomes NaN as soon as one value is not finite
  for (uint32_t i = 0; i < dims; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    check += x[i] * 0.0F;
  }
  if (check != 0.0F) return false;
  // Adding 1.5 * 2^52 rounds to the nearest integer and leaves it in the low bits: no call, and the compiler can
  // vectorise it.
  constexpr double kRound = 6755399441055744.0;
  const double inverse = largest > 0 ? 127.0 / double{largest} : 0.0;
  uint8_t* to = row(r);
  for (uint32_t i = 0; i < dims; ++i) {
    const auto bits = std::bit_cast<uint64_t>(double{x[i]} * inverse + kRound);
    to[i] = static_cast<uint8_t>(bits ^ 0x80U);
  }
  std::memset(to + dims, 128, stride - dims);
  int32_t sum = 0, square = 0;
  for (uint32_t i = 0; i < dims; ++i) {
    const int32_t code = int32_t{to[i]} - 128;
    sum += code;
    square += code * code;
  }
  offset[r] = -128 * sum;
  squares[r] = square;
  scale[r] = largest / 127;
  return true;
}

void CodedRows::normalise(uint32_t r) noexcept {
  const double length = std::sqrt(static_cast<double>(squares[r]));
  scale[r] = length > 0 ? static_cast<float>(1 / length) : 0.0F;
  resize(r, 1);
}

void CodedRows::resize(uint32_t r, double factor) noexcept {
  scale[r] = static_cast<float>(double{scale[r]} * factor);
  norm[r] = static_cast<float>(double{scale[r]} * double{scale[r]} * static_cast<double>(squares[r]));
}

void CodedRows::copy(uint32_t r, const CodedRows& from, uint32_t from_row) noexcept {
  std::memcpy(row(r), from.row(from_row), stride);
  scale[r] = from.scale[from_row];
  norm[r] = from.norm[from_row];
  offset[r] = from.offset[from_row];
  squares[r] = from.squares[from_row];
}

namespace {

void make_unit(std::vector<float>& x) {
  double squares = 0;
  for (const float value : x) squares += double{value} * double{value};
  const double inverse = squares > 0 ? 1 / std::sqrt(squares) : 0;
  for (float& value : x) value = static_cast<float>(double{value} * inverse);
}

// y = L^T x, L lower triangular
void multiply(const std::vector<float>& matrix, const std::vector<float>& x, std::vector<float>& y) {
  const size_t dims = x.size();
  std::fill(y.begin(), y.end(), 0.0F);
  // Row by row of L, so that the inner loop carries no sum.
  for (size_t i = 0; i < dims; ++i) {
    const float* row = matrix.data() + i * dims;
    for (size_t j = 0; j <= i; ++j) y[j] += row[j] * x[i];
  }
}

}  // namespace

CodedRows encode_rows(const Context& context, const std::vector<float>& metric) {
  const VectorSource& vectors = context.vectors;
  const uint32_t dims = vectors.dims;
  CodedRows rows(vectors.rows, dims);
  context.for_rows(vectors.rows, 0, [&](uint32_t first, uint32_t end) {
    std::vector<float> x(dims), y(dims);
    for (uint32_t row = first; row < end; ++row) {
      read_vector(context, vectors, row, x.data());
      if (!metric.empty()) {
        if (context.metric == Metric::kCosine) make_unit(x);
        multiply(metric, x, y);
        x.swap(y);
      }
      if (!rows.encode(row, x.data(), dims)) {
        throw Error(codes::kBadVector, "vectors: row " + std::to_string(row) +
                                           " holds NaN or an infinite value; remove or repair it in the export");
      }
    }
  });
  float largest = 0;
  for (uint32_t row = 0; row < rows.rows; ++row) largest = std::max(largest, rows.scale[row]);
  // Numbers near 1 keep squared distances inside f32, whatever the unit of the vectors.
  int exponent = 0;
  if (largest > 0) (void)std::frexp(largest, &exponent);
  const double factor = std::ldexp(1.0, -exponent);
  context.for_rows(vectors.rows, 0, [&](uint32_t first, uint32_t end) {
    for (uint32_t row = first; row < end; ++row) {
      if (context.metric == Metric::kCosine && metric.empty()) {
        rows.normalise(row);
      } else {
        rows.resize(row, factor);
      }
    }
  });
  return rows;
}

CodedRows reorder(const Context& context, const CodedRows& rows, const std::vector<uint32_t>& order) {
  CodedRows ordered(rows.rows, context.vectors.dims);
  context.for_rows(rows.rows, 0, [&](uint32_t first, uint32_t end) {
    for (uint32_t row = first; row < end; ++row) ordered.copy(row, rows, order[row]);
  });
  return ordered;
}

PackedRows::PackedRows(const Context& context, const CodedRows& rows) : pairs_(context.pairs()), groups_(rows.groups) {
  const size_t padded = (size_t{rows.rows} + kPairBlockRows - 1) / kPairBlockRows * kPairBlockRows;
  blocks_ = AlignedBuffer<int8_t>(padded * groups_ * 4);
  scale_ = AlignedBuffer<float>(padded);
  norm_ = AlignedBuffer<float>(padded);
  offset_ = AlignedBuffer<int32_t>(padded);
  pairs_.pack(rows.codes.data(), rows.stride, groups_, nullptr, rows.rows, blocks_.data());
  for (uint32_t column = 0; column < padded; ++column) {
    const uint32_t row = std::min(column, rows.rows - 1);
    scale_[column] = rows.scale[row];
    norm_[column] = rows.norm[row];
    offset_[column] = rows.offset[row];
  }
}

void PackedRows::distances(const CodedRows& others, uint32_t row, float* out) const {
  pairs_.distances(others.row(row), others.scale[row], others.norm[row],
                   {groups_, blocks_.data(), scale_.data(), norm_.data(), offset_.data()},
                   static_cast<uint32_t>(padded() / kPairBlockRows), out);
}

}  // namespace belfry::graph_build
