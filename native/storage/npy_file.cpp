#include "storage/npy_file.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "core/error.hpp"
#include "core/metric.hpp"
#include "storage/npy_convert.hpp"

namespace belfry {

namespace {

std::string show_shape(const std::vector<uint64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace

NpyFile NpyFile::open(const std::string& path) {
  File file = File::open_read(path);
  const File::Stamp stamp = file.stamp();
  std::vector<unsigned char> prefix(std::min<uint64_t>(stamp.bytes, kNpyPrefixMax));
  file.read(prefix.data(), prefix.size(), 0);
  const std::string name = base_name(path);
  NpyHeader header = parse_npy_header(prefix.data(), prefix.size(), name);
  const uint64_t expected = header.data_offset + header.data_bytes();
  if (stamp.bytes != expected) {
    throw Error(codes::kNpySize, name + ": expected " + std::to_string(expected) + " bytes for shape " +
                                     show_shape(header.shape) + " of " + header.dtype() + ", the file has " +
                                     std::to_string(stamp.bytes) + ", " +
                                     (stamp.bytes < expected ? std::to_string(expected - stamp.bytes) + " too few"
                                                             : std::to_string(stamp.bytes - expected) + " too many") +
                                     "; write the export again");
  }
  return NpyFile{std::move(file), stamp, std::move(header)};
}

NpyFile NpyFile::open_matrix(const std::string& path) {
  NpyFile npy = open(path);
  const NpyHeader& header = npy.header;
  const auto unsupported = [&](const std::string& why) {
    return Error(codes::kNpyUnsupported, base_name(path) + ": " + why);
  };
  if (header.kind != 'f') throw unsupported("dtype " + header.dtype() + " cannot be embeddings; supported: f2, f4, f8");
  if (header.shape.size() != 2) {
    throw unsupported("expected a 2-D matrix (rows, dims), found shape " + show_shape(header.shape));
  }
  npy.rows = header.shape[0];
  npy.dims = header.shape[1];
  if (npy.dims < 1 || npy.dims > kDimsMax) {
    throw unsupported("expected 1 to " + std::to_string(kDimsMax) + " dims, found " + std::to_string(npy.dims));
  }
  if (npy.rows > kRowsMax) {
    throw unsupported("expected at most " + std::to_string(kRowsMax) + " rows, found " + std::to_string(npy.rows));
  }
  return npy;
}

std::vector<int64_t> read_npy_ids(const std::string& path) {
  const NpyFile npy = NpyFile::open(path);
  const NpyHeader& header = npy.header;
  if (header.kind == 'f' || header.shape.size() != 1) {
    throw Error(codes::kNpyUnsupported, base_name(path) + ": expected a 1-D file of integer ids, found " +
                                            header.dtype() + " of shape " + show_shape(header.shape));
  }
  // The size was compared with the real file, so this allocation is bounded by it.
  std::vector<int64_t> ids(header.items());
  std::vector<unsigned char> chunk(std::min<uint64_t>(header.data_bytes(), size_t{1} << 20));
  for (size_t done = 0; done < ids.size();) {
    const size_t count = std::min(ids.size() - done, chunk.size() / header.item_bytes);
    npy.file.read(chunk.data(), count * header.item_bytes, header.data_offset + done * header.item_bytes);
    for (size_t i = 0; i < count; ++i) {
      const uint64_t bits = load_bits(chunk.data() + i * header.item_bytes, header.item_bytes, header.big_endian);
      if (header.kind == 'u') {
        if (bits > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
          throw Error(codes::kInvalidId, base_name(path) + ": row " + std::to_string(done + i) + " holds id " +
                                             std::to_string(bits) + ", beyond 2^63 - 1");
        }
        ids[done + i] = static_cast<int64_t>(bits);
      } else {
        const uint32_t unused = 64 - 8 * header.item_bytes;  // sign extension
        ids[done + i] = static_cast<int64_t>(bits << unused) >> unused;
      }
    }
    done += count;
  }
  npy.file.check_unchanged(npy.stamp);
  return ids;
}

}  // namespace belfry
