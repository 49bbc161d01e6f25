#include "storage/npy_import.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "kernels/cpu.hpp"
#include "storage/npy_convert.hpp"

namespace belfry {

namespace {

constexpr uint64_t kBlockBytesC = uint64_t{4} << 20;
// A Fortran block reads a piece of every column, so it is larger: fewer, longer reads.
constexpr uint64_t kBlockBytesFortran = uint64_t{32} << 20;
constexpr uint64_t kColumnsAtOnce = 16;  // 16 x 4 bytes: a transposition then writes whole cache lines
constexpr size_t kRowsListed = 16;

void list_row(std::vector<uint32_t>& rows, uint64_t& count, uint64_t row) {
  if (rows.size() < kRowsListed) rows.push_back(static_cast<uint32_t>(row));
  ++count;
}

// columns: `width` pieces of `count` values, `count` apart -> rows of `dims` values, from column `column` on.
template <class Value>
void transpose(const Value* columns, uint64_t count, uint64_t width, Value* to, uint64_t dims, uint64_t column) {
  for (uint64_t row = 0; row < count; ++row) {
    for (uint64_t c = 0; c < width; ++c) to[row * dims + column + c] = columns[c * count + row];
  }
}

}  // namespace

NpyImport::NpyImport(const std::string& path, const std::string& out)
    : source_(NpyFile::open_matrix(path)), output_(File::create(out)), half_(source_.header.item_bytes == 2) {
  const uint64_t row_bytes = source_.dims * 4;
  const uint64_t block_bytes = source_.header.fortran_order ? kBlockBytesFortran : kBlockBytesC;
  block_rows_ = std::max<uint64_t>(1, std::min(block_bytes / row_bytes, std::max<uint64_t>(1, source_.rows)));
  const std::string header = format_npy_header('f', half_ ? 2 : 4, source_.rows, source_.dims);
  output_.write(header.data(), header.size());
}

uint64_t NpyImport::step(uint64_t rows) {
  if (failed_) throw failed("step");
  failed_ = true;  // until the end is reached: the output may hold a part of a block
  const uint64_t end = std::min(source_.rows, done_ + std::min(rows, source_.rows));
  while (done_ < end) {
    if (cancelled_.load()) throw Error(codes::kClosed, base_name(source_.file.path()) + ": the import was aborted");
    const uint64_t count = std::min(block_rows_, end - done_);
    import_block(done_, count);
    done_ += count;
  }
  failed_ = false;
  return done_;
}

void NpyImport::import_block(uint64_t first, uint64_t count) {
  const uint64_t items = count * source_.dims;
  if (half_) halves_.resize(std::max<size_t>(halves_.size(), items));
  values_.resize(std::max<size_t>(values_.size(), half_ ? source_.dims : items));
  if (source_.header.fortran_order) {
    read_fortran_order(first, count);
  } else {
    read_c_order(first, count);
  }
  profile_rows(first, count);
  if (half_) {
    output_.write(halves_.data(), items * 2);
  } else {
    output_.write(values_.data(), items * 4);
  }
}

void NpyImport::read_c_order(uint64_t first, uint64_t count) {
  const NpyHeader& header = source_.header;
  const uint64_t items = count * source_.dims;
  raw_.resize(std::max<size_t>(raw_.size(), items * header.item_bytes));
  source_.file.read(raw_.data(), items * header.item_bytes,
                    header.data_offset + first * source_.dims * header.item_bytes);
  if (half_) {
    to_f16_words(header, raw_.data(), halves_.data(), items);
  } else {
    profile_.overflow_count += to_f32_values(header, raw_.data(), values_.data(), items);
  }
}

void NpyImport::read_fortran_order(uint64_t first, uint64_t count) {
  const NpyHeader& header = source_.header;
  raw_.resize(std::max<size_t>(raw_.size(), count * header.item_bytes));
  std::vector<float> columns(half_ ? 0 : count * kColumnsAtOnce);
  std::vector<uint16_t> half_columns(half_ ? count * kColumnsAtOnce : 0);
  for (uint64_t column = 0; column < source_.dims; column += kColumnsAtOnce) {
    const uint64_t width = std::min(kColumnsAtOnce, source_.dims - column);
    for (uint64_t c = 0; c < width; ++c) {
      source_.file.read(raw_.data(), count * header.item_bytes,
                        header.data_offset + ((column + c) * source_.rows + first) * header.item_bytes);
      if (half_) {
        to_f16_words(header, raw_.data(), half_columns.data() + c * count, count);
      } else {
        profile_.overflow_count += to_f32_values(header, raw_.data(), columns.data() + c * count, count);
      }
    }
    if (half_) {
      transpose(half_columns.data(), count, width, halves_.data(), source_.dims, column);
    } else {
      transpose(columns.data(), count, width, values_.data(), source_.dims, column);
    }
  }
}

void NpyImport::profile_rows(uint64_t first, uint64_t count) {
  const uint64_t dims = source_.dims;
  for (uint64_t i = 0; i < count; ++i) {
    const float* row = values_.data() + (half_ ? 0 : i * dims);
    if (half_) {
      available_kernels().front()->widen_f16(reinterpret_cast<const unsigned char*>(halves_.data() + i * dims),
                                             values_.data(), dims);
    }
    double squares = 0;
    for (uint64_t d = 0; d < dims; ++d) squares += double{row[d]} * double{row[d]};
    if (!std::isfinite(squares)) {  // f32 squares cannot overflow f64, so a value was not finite
      list_row(profile_.non_finite_rows, profile_.non_finite_count, first + i);
      continue;
    }
    if (squares == 0) list_row(profile_.zero_rows, profile_.zero_count, first + i);
    const double norm = std::sqrt(squares);
    profile_.norm_min = profile_.norm_count == 0 ? norm : std::min(profile_.norm_min, norm);
    profile_.norm_max = std::max(profile_.norm_max, norm);
    profile_.norm_sum += norm;
    ++profile_.norm_count;
  }
}

Error NpyImport::failed(const char* call) const {
  return Error(codes::kInvalidArgument, std::string(call) + ": expected an import without a failed step, received " +
                                            base_name(source_.file.path()) + " after one; open the import again");
}

const VectorProfile& NpyImport::finish() {
  if (failed_) throw failed("finish");
  if (done_ != source_.rows) {
    throw Error(codes::kInvalidArgument, "finish: expected all " + std::to_string(source_.rows) +
                                             " rows to be imported, received " + std::to_string(done_));
  }
  if (!finished_) {
    output_.sync();
    output_.close();
    source_.file.check_unchanged(source_.stamp);
    finished_ = true;
  }
  return profile_;
}

}  // namespace belfry
