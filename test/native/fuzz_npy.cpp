// libFuzzer target: whatever a .npy holds, its readers (the header parser, the mapped matrix, the import, the ids) give
// values or a belfry::Error. Each input is read as it is, and made as long as its header says, where that is short.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "memory_file.hpp"
#include "storage/matrix.hpp"
#include "storage/npy_file.hpp"
#include "storage/npy_header.hpp"
#include "storage/npy_import.hpp"

namespace {

using namespace belfry;
using namespace belfry::test;

constexpr uint64_t kBytesMax = 16 << 10;

template <class Action>
void attempt(const Action& action) {
  try {
    action();
  } catch (const Error&) {
    // refused: fine
  }
}

// Each reader of its own: one may refuse what another takes.
void read(const MemoryFile& file) {
  static const MemoryFile copy;
  attempt([&] { (void)read_npy_ids(file.path()); });
  attempt([&] {
    const auto matrix = Matrix::open(file.path());
    if (matrix->rows() == 0) return;
    std::vector<float> row(matrix->dims());
    matrix->read_row(matrix->rows() - 1, row.data());
    const VectorSource vectors = Matrix::vectors(matrix, 1);
    if (vectors.rows != matrix->rows() || vectors.dims != matrix->dims()) __builtin_trap();
    volatile unsigned char last = vectors.row(vectors.rows - 1)[vectors.row_bytes - 1];
    (void)last;
  });
  attempt([&] {
    NpyImport import(file.path(), copy.path());
    while (import.step(7) < import.rows()) {
    }
    const uint64_t rows = import.finish().norm_count + import.finish().non_finite_count;
    if (rows != import.rows()) __builtin_trap();
    const NpyFile written = NpyFile::open_matrix(copy.path());
    if (written.rows != import.rows() || written.dims != import.dims()) __builtin_trap();
  });
}

// A header of another shape, order and type for each corner of the format.
void write_seeds(const std::string& folder) {
  const char* const types[] = {"<f4", "<f2", "<f8", ">f4", ">f2", ">f8", "|u1", "<i8", ">u8", "|O"};
  const char* const shapes[] = {"(3, 4)", "(0, 5)", "(5,)", "(2, 3, 4)", "()", "(4294967296, 4294967297)"};
  for (const char* type : types) {
    for (const char* shape : shapes) {
      for (const char version : {'\1', '\2', '\3'}) {
        const bool fortran = version == '\2';
        const std::string text = std::string("{'descr': '") + type +
                                 "', 'fortran_order': " + (fortran ? "True" : "False") + ", 'shape': " + shape +
                                 ", }\n";
        std::string bytes = std::string("\x93NUMPY", 6) + version + '\0' + static_cast<char>(text.size());
        bytes += std::string(version == '\1' ? 1 : 3, '\0') + text;
        std::ofstream out(folder + "/" + std::to_string(std::hash<std::string>{}(bytes)), std::ios::binary);
        out << bytes << std::string(96, '\x3f');
      }
    }
  }
}

}  // namespace

// `--seeds FOLDER` writes the seed corpus.
extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  if (*count != 3 || std::string((*arguments)[1]) != "--seeds") return 0;
  write_seeds((*arguments)[2]);
  std::exit(0);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static MemoryFile file;
  file.set(data, size);
  read(file);
  attempt([&] {
    const NpyHeader header = parse_npy_header(data, size, "fuzz");
    if (header.data_offset > size || header.items() > (uint64_t{1} << 60)) __builtin_trap();
    const uint64_t whole = header.data_offset + header.data_bytes();
    if (whole > kBytesMax || whole == size) return;
    std::vector<uint8_t> bytes(data, data + size);
    bytes.resize(whole, 0x3f);
    file.set(bytes.data(), bytes.size());
    read(file);
  });
  return 0;
}
