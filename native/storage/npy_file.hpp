#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/file.hpp"
#include "storage/npy_header.hpp"

namespace belfry {

// An open .npy whose header has been parsed and whose size fits it exactly.
struct NpyFile {
  File file;
  File::Stamp stamp;  // at opening
  NpyHeader header;
  uint64_t rows = 0, dims = 0;  // of a matrix

  // Throws BELFRY_FILE_UNREADABLE, BELFRY_NPY_INVALID, BELFRY_NPY_UNSUPPORTED or BELFRY_NPY_SIZE.
  static NpyFile open(const std::string& path);
  // The same, and it must be a 2-D matrix of f2, f4 or f8 within the limits of an index.
  static NpyFile open_matrix(const std::string& path);
};

// A 1-D integer file.
std::vector<int64_t> read_npy_ids(const std::string& path);

}  // namespace belfry
