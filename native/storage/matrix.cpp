#include "storage/matrix.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "core/error.hpp"
#include "core/thread_pool.hpp"
#include "storage/npy_convert.hpp"

namespace belfry {

MappedFile::MappedFile(const File& file, uint64_t bytes) : bytes_(bytes) {
  void* mapped = ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (mapped == MAP_FAILED) {
    throw Error(codes::kFileUnreadable,
                base_name(file.path()) + ": cannot be mapped: " + std::generic_category().message(errno));
  }
  data_ = static_cast<const unsigned char*>(mapped);
}

MappedFile::~MappedFile() { (void)::munmap(const_cast<unsigned char*>(data_), bytes_); }

std::shared_ptr<Matrix> Matrix::open(const std::string& path) {
  const NpyFile npy = NpyFile::open_matrix(path);
  auto matrix = std::make_shared<Matrix>();
  matrix->path_ = path;
  matrix->header_ = npy.header;
  matrix->file_bytes_ = npy.stamp.bytes;
  matrix->rows_ = static_cast<uint32_t>(npy.rows);
  matrix->dims_ = static_cast<uint32_t>(npy.dims);
  matrix->mapped_ = std::make_unique<MappedFile>(npy.file, npy.stamp.bytes);
  matrix->data_ = matrix->mapped_->data() + npy.header.data_offset;
  return matrix;
}

std::shared_ptr<Matrix> Matrix::in_memory(uint32_t rows, uint32_t dims) {
  auto matrix = std::make_shared<Matrix>();
  matrix->header_.shape = {rows, dims};
  matrix->rows_ = rows;
  matrix->dims_ = dims;
  matrix->memory_ = AlignedBuffer<float>(size_t{rows} * dims);
  matrix->data_ = reinterpret_cast<const unsigned char*>(matrix->memory_.data());
  return matrix;
}

void Matrix::read_row(uint32_t row, float* to) const noexcept {
  if (!header_.fortran_order) {
    (void)to_f32_values(header_, data_ + size_t{row} * dims_ * header_.item_bytes, to, dims_);
    return;
  }
  for (uint32_t dim = 0; dim < dims_; ++dim) {
    (void)to_f32_values(header_, data_ + (size_t{dim} * rows_ + row) * header_.item_bytes, to + dim, 1);
  }
}

VectorSource Matrix::vectors(const std::shared_ptr<const Matrix>& self, size_t threads) {
  const NpyHeader& header = self->header_;
  VectorSource source;
  source.rows = self->rows_;
  source.dims = self->dims_;
  if (!header.fortran_order && !header.big_endian && header.item_bytes <= 4) {
    source.owner = self;
    source.base = self->data_;
    source.format = header.item_bytes == 2 ? RowFormat::kF16 : RowFormat::kF32;
    source.row_bytes = size_t{self->dims_} * header.item_bytes;
    return source;
  }
  auto copy = std::make_shared<AlignedBuffer<float>>(size_t{self->rows_} * self->dims_);
  constexpr uint32_t kChunkRows = 1024;
  ThreadPool::instance().parallel_for((size_t{self->rows_} + kChunkRows - 1) / kChunkRows, threads, [&](size_t chunk) {
    const uint32_t first = static_cast<uint32_t>(chunk) * kChunkRows;
    const uint32_t end = std::min(self->rows_, first + kChunkRows);
    for (uint32_t row = first; row < end; ++row) self->read_row(row, copy->data() + size_t{row} * self->dims_);
  });
  source.base = reinterpret_cast<const unsigned char*>(copy->data());
  source.row_bytes = size_t{self->dims_} * 4;
  source.owner = std::move(copy);
  return source;
}

}  // namespace belfry
