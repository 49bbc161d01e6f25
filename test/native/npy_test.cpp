#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "check.hpp"
#include "core/error.hpp"
#include "storage/matrix.hpp"
#include "storage/npy_header.hpp"
#include "storage/npy_import.hpp"

namespace {

using namespace belfry;

std::string parse(const std::string& bytes) {
  try {
    const NpyHeader header = parse_npy_header(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), "x");
    return header.dtype() + (header.big_endian ? " big" : "") + (header.fortran_order ? " fortran" : "");
  } catch (const Error& error) {
    return error.code();
  }
}

std::string with_header(const std::string& text, char version = 1) {
  std::string out("\x93NUMPY", 6);
  out += version;
  out += '\0';
  const size_t length_bytes = version == 1 ? 2 : 4;
  for (size_t i = 0; i < length_bytes; ++i) out += static_cast<char>((text.size() >> (8 * i)) & 0xff);
  return out + text;
}

TEST(header_of_each_version_and_order) {
  CHECK(parse(with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }\n")) == "f4");
  CHECK(parse(with_header("{'shape':(3,),'descr':'>f8','fortran_order':True}", 2)) == "f8 big fortran");
  CHECK(parse(with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (), }   \n", 3)) == "u1");
  const std::string own = format_npy_header('f', 2, 1'000'000'000, 4096);
  CHECK(own.size() % 64 == 0 && parse(own) == "f2");
}

TEST(any_damage_to_a_header_is_an_error_or_a_header) {
  const std::string good = with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }\n");
  for (size_t i = 0; i < good.size(); ++i) {
    CHECK(parse(good.substr(0, i)) == "BELFRY_NPY_INVALID");
    for (int byte = 0; byte < 256; ++byte) {
      std::string bad = good;
      bad[i] = static_cast<char>(byte);
      (void)parse(bad);  // any answer; ASan and UBSan watch
    }
  }
}

TEST(import_of_a_fortran_file_equals_the_mapped_matrix) {
  char folder[] = "/tmp/belfry-native-XXXXXX";
  CHECK(mkdtemp(folder) != nullptr);
  const std::string path = std::string(folder) + "/in.npy", out = std::string(folder) + "/out.npy";
  const uint32_t rows = 50, dims = 19;
  {
    File file = File::create(path);
    const std::string header = with_header("{'descr': '>f8', 'fortran_order': True, 'shape': (50, 19), }");
    file.write(header.data(), header.size());
    for (uint32_t i = 0; i < rows * dims; ++i) {
      const double value = i * 0.25 - 100;
      unsigned char bytes[8];
      uint64_t bits;
      std::memcpy(&bits, &value, 8);
      for (int b = 0; b < 8; ++b) bytes[b] = static_cast<unsigned char>(bits >> (56 - 8 * b));
      file.write(bytes, 8);
    }
  }
  NpyImport import(path, out);
  CHECK(import.step(7) == 7);
  CHECK(import.step(1000) == rows);
  const VectorProfile& profile = import.finish();
  CHECK(profile.norm_count == rows && profile.non_finite_count == 0);
  const auto source = Matrix::open(path), copy = Matrix::open(out);
  std::vector<float> a(dims), b(dims);
  bool equal = true;
  for (uint32_t row = 0; row < rows; ++row) {
    source->read_row(row, a.data());
    copy->read_row(row, b.data());
    equal &= a == b && a[3] == static_cast<float>((3 * rows + row) * 0.25 - 100);
  }
  CHECK(equal);
  (void)::unlink(path.c_str());
  (void)::unlink(out.c_str());
  (void)::rmdir(folder);
}

}  // namespace
