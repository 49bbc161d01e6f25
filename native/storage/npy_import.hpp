#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "storage/npy_file.hpp"

namespace belfry {

// What a pass over all rows saw. Row lists hold the first 16.
struct VectorProfile {
  std::vector<uint32_t> non_finite_rows, zero_rows;
  uint64_t non_finite_count = 0, zero_count = 0, overflow_count = 0;
  double norm_min = 0, norm_sum = 0, norm_max = 0;
  uint64_t norm_count = 0;
};

// Copies a foreign .npy to a little-endian C-order one: f2 stays f2, f4 and f8 become f4. Works by reads on one
// descriptor, so a file that shrinks under it is an error and not a SIGBUS. Not for concurrent use, except cancel().
class NpyImport {
 public:
  NpyImport(const std::string& path, const std::string& out);

  // Handles up to `rows` more rows; returns the rows done so far.
  uint64_t step(uint64_t rows);
  // After the last row: syncs and closes the output, checks that the source is what it was.
  const VectorProfile& finish();
  // A running step ends early with BELFRY_CLOSED.
  void cancel() noexcept { cancelled_.store(true); }

  const NpyFile& source() const noexcept { return source_; }
  uint64_t rows() const noexcept { return source_.rows; }
  uint64_t dims() const noexcept { return source_.dims; }

 private:
  Error failed(const char* call) const;
  void import_block(uint64_t first, uint64_t count);
  void read_c_order(uint64_t first, uint64_t count);
  void read_fortran_order(uint64_t first, uint64_t count);
  void profile_rows(uint64_t first, uint64_t count);

  NpyFile source_;
  File output_;
  bool half_;            // the output is f2
  uint64_t block_rows_;  // rows read and written at once
  uint64_t done_ = 0;
  bool failed_ = false;
  bool finished_ = false;
  VectorProfile profile_;
  std::vector<unsigned char> raw_;
  std::vector<float> values_;     // block_rows_ x dims, when the output is f4
  std::vector<uint16_t> halves_;  // the same, when it is f2
  std::atomic<bool> cancelled_{false};
};

}  // namespace belfry
