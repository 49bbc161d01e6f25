#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/metric.hpp"
#include "storage/file.hpp"
#include "storage/matrix.hpp"

namespace belfry {

// The container of an index: a 4 KiB header with a table of sections, then the sections. docs/index-file.md gives every
// byte. What a section holds is the matter of its reader (graph_file.hpp); here its bytes are kept whole.

inline constexpr uint32_t kIndexVersion = 1;
inline constexpr uint64_t kIndexHeaderBytes = 4096;
inline constexpr uint32_t kIndexSectionsMax = 32;
inline constexpr size_t kFingerprintMax = 64;

// Values are part of the format. A reader passes over kinds that it does not know, after checking their checksums.
enum class SectionKind : uint32_t { kNeighbours = 1, kOrder = 2, kEntries = 3, kPartitions = 4, kNotes = 5 };

// May stand for the vectors in IndexHeader: 1 .. kFingerprintMax printable ASCII characters, no space.
bool is_fingerprint(const std::string& text);

struct IndexSection {
  SectionKind kind{};
  uint32_t element_bytes = 1;  // 1, 2, 4 or 8
  uint64_t offset = 0;         // from the start of the file
  uint64_t bytes = 0;
  uint32_t checksum = 0;  // CRC-32C of the bytes
};

struct IndexHeader {
  uint64_t rows = 0;  // 1 .. kRowsMax
  uint32_t dims = 0;  // 1 .. kDimsMax
  uint32_t degree = 0;
  Metric metric = Metric::kIp;
  uint64_t seed = 0;
  float alpha = 0;
  uint32_t query_edges = 0;
  std::string vectors;  // says which vectors the index was built from: a fingerprint
  uint64_t file_bytes = 0;
  std::vector<IndexSection> sections;  // in file order
};

// Parses and checks the first kIndexHeaderBytes of a file of `file_bytes` bytes; `name` is for messages. Afterwards
// every section lies inside the file and none overlaps another. Throws BELFRY_FILE_CORRUPT or BELFRY_FILE_VERSION.
IndexHeader parse_index_header(const unsigned char* bytes, uint64_t file_bytes, const std::string& name);

// What write_index_file puts into a section.
struct SectionSource {
  SectionKind kind{};
  uint32_t element_bytes = 1;
  const void* data = nullptr;
  uint64_t bytes = 0;
};

// Writes `sections` in the order given, under a temporary name until everything is on disk. `file_bytes` and `sections`
// of the header are worked out here. Throws BELFRY_DISK_SPACE, BELFRY_FILE_UNREADABLE or BELFRY_INVALID_ARGUMENT; then
// the path holds what it held before.
void write_index_file(const std::string& path, const IndexHeader& header, const std::vector<SectionSource>& sections,
                      size_t threads);

// An open index file whose header has been checked.
class IndexFile {
 public:
  // Throws BELFRY_FILE_UNREADABLE, BELFRY_FILE_CORRUPT, BELFRY_FILE_VERSION.
  static IndexFile open(const std::string& path);

  const IndexHeader& header() const noexcept { return header_; }
  std::string name() const { return base_name(file_.path()); }
  // Null when the file has none of this kind.
  const IndexSection* find(SectionKind kind) const noexcept;

  // Copies a section to `to` (section.bytes) and compares its checksum: BELFRY_FILE_CORRUPT when it differs.
  void read(const IndexSection& section, void* to, size_t threads) const;
  // Compares the checksum only; of the file, or of the file's bytes in a mapping.
  void verify(const IndexSection& section, size_t threads) const;
  void verify(const IndexSection& section, const MappedFile& mapped, size_t threads) const;
  // The whole file. Only for files that nobody changes while the mapping lives.
  std::shared_ptr<const MappedFile> map() const;
  // Throws BELFRY_FILE_CHANGED when the file is not what it was at open().
  void check_unchanged() const { file_.check_unchanged(stamp_); }

  Error corrupt(const std::string& why) const;

 private:
  IndexFile(File file, File::Stamp stamp, IndexHeader header);
  void check_padding() const;
  void compare(const IndexSection& section, uint32_t checksum) const;

  File file_;
  File::Stamp stamp_;
  IndexHeader header_;
};

}  // namespace belfry
