#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/aligned_buffer.hpp"
#include "index/vector_source.hpp"
#include "storage/npy_file.hpp"

namespace belfry {

// Bytes of a file, mapped read-only. Truncating a mapped file makes its pages fault, so only files that nobody changes
// (a generation's own) should be mapped; foreign ones go through NpyImport.
class MappedFile {
 public:
  explicit MappedFile(const File& file, uint64_t bytes);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();
  const unsigned char* data() const noexcept { return data_; }

 private:
  const unsigned char* data_ = nullptr;
  size_t bytes_ = 0;
};

// Vectors: a mapped .npy of f2, f4 or f8 in any byte and memory order, or an f32 copy handed over by a caller.
class Matrix {
 public:
  static std::shared_ptr<Matrix> open(const std::string& path);
  // Row-major f32, filled by the caller before anything reads it.
  static std::shared_ptr<Matrix> in_memory(uint32_t rows, uint32_t dims);

  uint32_t rows() const noexcept { return rows_; }
  uint32_t dims() const noexcept { return dims_; }
  const std::string& path() const noexcept { return path_; }
  const NpyHeader& header() const noexcept { return header_; }
  uint64_t file_bytes() const noexcept { return file_bytes_; }
  float* values() noexcept { return memory_.data(); }

  // One row as f32.
  void read_row(uint32_t row, float* to) const noexcept;
  // The vectors as an index wants them. Little-endian C-order f2 and f4 are used in place; anything else is converted
  // to f32 in memory, in parallel. `self` keeps the mapping alive.
  static VectorSource vectors(const std::shared_ptr<const Matrix>& self, size_t threads);

 private:
  std::string path_;
  NpyHeader header_;
  uint64_t file_bytes_ = 0;
  std::unique_ptr<MappedFile> mapped_;
  AlignedBuffer<float> memory_;
  const unsigned char* data_ = nullptr;
  uint32_t rows_ = 0, dims_ = 0;
};

}  // namespace belfry
