#include "storage/index_file.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/error.hpp"
#include "core/thread_pool.hpp"
#include "kernels/crc32c.hpp"

namespace belfry {

namespace {

static_assert(std::endian::native == std::endian::little, "sections are written as they lie in memory");

constexpr char kMagic[8] = {'B', 'E', 'L', 'F', 'R', 'Y', 'I', 'X'};
// Large sections start where a huge page can; for small ones that would be mostly padding.
constexpr uint64_t kSmallBorder = 4096;
constexpr uint64_t kLargeBorder = uint64_t{2} << 20;
constexpr uint64_t kLargeSection = uint64_t{16} << 20;
constexpr uint64_t kPieceBytes = uint64_t{4} << 20;  // read and summed by one thread at once
constexpr size_t kChecksumAt = kIndexHeaderBytes - 4;

// The header as it lies in the file.
struct RawHeader {
  char magic[8];
  uint32_t version;
  uint32_t sections;
  uint64_t file_bytes;
  uint64_t rows;
  uint32_t dims;
  uint32_t degree;
  uint32_t metric;
  uint32_t layout_flags;  // none defined
  uint64_t seed;
  float alpha;
  uint32_t query_edges;
  char vectors[kFingerprintMax];  // zero behind the last character
};
struct RawSection {
  uint32_t kind;
  uint32_t element_bytes;
  uint64_t offset;
  uint64_t bytes;
  uint32_t checksum;
  uint32_t reserved;
};
static_assert(sizeof(RawHeader) == 128 && sizeof(RawSection) == 32);
static_assert(sizeof(RawHeader) + kIndexSectionsMax * sizeof(RawSection) <= kChecksumAt);

uint64_t round_up(uint64_t value, uint64_t border) { return (value + border - 1) / border * border; }

// The one place where a section of this size may start.
uint64_t section_offset(uint64_t previous_end, uint64_t bytes) {
  return round_up(previous_end, bytes >= kLargeSection ? kLargeBorder : kSmallBorder);
}

bool all_zero(const unsigned char* bytes, size_t count) {
  return std::all_of(bytes, bytes + count, [](unsigned char byte) { return byte == 0; });
}

Error corrupt_error(const std::string& name, const std::string& why) {
  return Error(codes::kFileCorrupt, name + ": " + why + "; build the index again, or copy the file again");
}

std::string found(const char* what, uint64_t value) { return std::string(what) + " is " + std::to_string(value); }

// What is wrong with the fields that a writer sets as well; empty: nothing.
std::string field_fault(const IndexHeader& header) {
  if (header.rows < 1 || header.rows > kRowsMax) return found("rows", header.rows);
  if (header.dims < 1 || header.dims > kDimsMax) return found("dims", header.dims);
  if (!std::isfinite(header.alpha)) return "alpha is not finite";
  if (!is_fingerprint(header.vectors)) return "the fingerprint of the vectors is not 1 to 64 printable characters";
  return {};
}

// The checksum of `bytes` bytes, summed in pieces side by side; piece(at, count) returns that of one.
template <class Piece>
uint32_t sum_pieces(uint64_t bytes, size_t threads, const Piece& piece) {
  const auto count_at = [bytes](size_t i) { return std::min<uint64_t>(kPieceBytes, bytes - i * kPieceBytes); };
  std::vector<uint32_t> sums((bytes + kPieceBytes - 1) / kPieceBytes);
  ThreadPool::instance().parallel_for(sums.size(), threads,
                                      [&](size_t i) { sums[i] = piece(i * kPieceBytes, count_at(i)); });
  uint32_t whole = 0;
  for (size_t i = 0; i < sums.size(); ++i) whole = crc32c_combine(whole, sums[i], count_at(i));
  return whole;
}

uint32_t checksum_of(const void* data, uint64_t bytes, size_t threads) {
  const auto* from = static_cast<const unsigned char*>(data);
  return sum_pieces(bytes, threads, [from](uint64_t at, size_t count) { return crc32c(from + at, count); });
}

}  // namespace

bool is_fingerprint(const std::string& text) {
  return !text.empty() && text.size() <= kFingerprintMax &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

IndexHeader parse_index_header(const unsigned char* bytes, uint64_t file_bytes, const std::string& name) {
  const auto corrupt = [&](const std::string& why) { return corrupt_error(name, why); };
  if (file_bytes < kIndexHeaderBytes) {
    throw corrupt("expected a header of " + std::to_string(kIndexHeaderBytes) + " bytes, the file has " +
                  std::to_string(file_bytes));
  }
  RawHeader raw;
  std::memcpy(&raw, bytes, sizeof raw);
  if (std::memcmp(raw.magic, kMagic, sizeof kMagic) != 0) throw corrupt("does not start as an index file does");
  if (raw.version != kIndexVersion) {
    throw Error(codes::kFileVersion, name + ": expected format version " + std::to_string(kIndexVersion) + ", found " +
                                         std::to_string(raw.version) +
                                         "; build the index again with this Belfry, or use the one that wrote it");
  }
  uint32_t checksum;
  std::memcpy(&checksum, bytes + kChecksumAt, sizeof checksum);
  if (crc32c(bytes, kChecksumAt) != checksum) throw corrupt("the header fails its checksum");

  // From here on the header is as somebody wrote it, which does not make it true.
  IndexHeader header;
  header.rows = raw.rows;
  header.dims = raw.dims;
  header.degree = raw.degree;
  header.seed = raw.seed;
  header.alpha = raw.alpha;
  header.query_edges = raw.query_edges;
  header.file_bytes = raw.file_bytes;
  header.vectors.assign(raw.vectors, strnlen(raw.vectors, kFingerprintMax));
  if (raw.metric > static_cast<uint32_t>(Metric::kL2)) throw corrupt(found("metric", raw.metric));
  header.metric = static_cast<Metric>(raw.metric);
  if (const std::string fault = field_fault(header); !fault.empty()) throw corrupt(fault);
  if (raw.layout_flags != 0) throw corrupt(found("layout flags", raw.layout_flags));
  if (raw.sections > kIndexSectionsMax) throw corrupt(found("the number of sections", raw.sections));
  if (raw.file_bytes != file_bytes) {
    throw corrupt("expected " + std::to_string(raw.file_bytes) + " bytes, the file has " + std::to_string(file_bytes));
  }

  uint64_t end = kIndexHeaderBytes;  // always <= file_bytes, so no sum below can wrap
  for (uint32_t i = 0; i < raw.sections; ++i) {
    RawSection section;
    std::memcpy(&section, bytes + sizeof raw + i * sizeof section, sizeof section);
    const std::string which = "section " + std::to_string(i);
    const uint32_t element = section.element_bytes;
    if (section.bytes > file_bytes - end) throw corrupt(which + " is longer than the file");
    if ((element != 1 && element != 2 && element != 4 && element != 8) || section.bytes % element != 0) {
      throw corrupt(which + " has " + std::to_string(section.bytes) + " bytes in elements of " +
                    std::to_string(element));
    }
    if (section.offset != section_offset(end, section.bytes)) {
      throw corrupt(which + " starts at " + std::to_string(section.offset) + ", not behind the one before");
    }
    if (section.offset > file_bytes - section.bytes) throw corrupt(which + " ends behind the file");
    if (section.kind == 0) throw corrupt(which + " has no kind");
    if (section.reserved != 0) throw corrupt(which + " uses reserved bytes");
    const auto kind = static_cast<SectionKind>(section.kind);
    for (const IndexSection& other : header.sections) {
      if (other.kind == kind) throw corrupt(which + " is a second one of kind " + std::to_string(section.kind));
    }
    header.sections.push_back({kind, element, section.offset, section.bytes, section.checksum});
    end = section.offset + section.bytes;
  }
  if (end != file_bytes) throw corrupt("has " + std::to_string(file_bytes - end) + " bytes behind its last section");
  const size_t used = sizeof raw + raw.sections * sizeof(RawSection);
  if (!all_zero(bytes + used, kChecksumAt - used) ||
      !all_zero(bytes + offsetof(RawHeader, vectors) + header.vectors.size(),
                kFingerprintMax - header.vectors.size())) {
    throw corrupt("the header uses reserved bytes");
  }
  return header;
}

void write_index_file(const std::string& path, const IndexHeader& header, const std::vector<SectionSource>& sections,
                      size_t threads) {
  if (const std::string fault = field_fault(header); !fault.empty()) {
    throw invalid_argument("index file", "a header within its bounds", fault);
  }
  if (sections.size() > kIndexSectionsMax) {
    throw invalid_argument("index file", "at most " + std::to_string(kIndexSectionsMax) + " sections",
                           std::to_string(sections.size()));
  }
  RawHeader raw{};
  std::memcpy(raw.magic, kMagic, sizeof kMagic);
  raw.version = kIndexVersion;
  raw.sections = static_cast<uint32_t>(sections.size());
  raw.rows = header.rows;
  raw.dims = header.dims;
  raw.degree = header.degree;
  raw.metric = static_cast<uint32_t>(header.metric);
  raw.seed = header.seed;
  raw.alpha = header.alpha;
  raw.query_edges = header.query_edges;
  std::memcpy(raw.vectors, header.vectors.data(), header.vectors.size());

  std::vector<unsigned char> head(kIndexHeaderBytes);
  std::vector<uint64_t> offsets;
  raw.file_bytes = kIndexHeaderBytes;
  for (const SectionSource& source : sections) {
    offsets.push_back(section_offset(raw.file_bytes, source.bytes));
    const RawSection entry{static_cast<uint32_t>(source.kind),
                           source.element_bytes,
                           offsets.back(),
                           source.bytes,
                           checksum_of(source.data, source.bytes, threads),
                           0};
    std::memcpy(head.data() + sizeof raw + (offsets.size() - 1) * sizeof entry, &entry, sizeof entry);
    raw.file_bytes = entry.offset + entry.bytes;
  }
  std::memcpy(head.data(), &raw, sizeof raw);
  const uint32_t checksum = crc32c(head.data(), kChecksumAt);
  std::memcpy(head.data() + kChecksumAt, &checksum, sizeof checksum);

  NewFile file(path);
  file.write(head.data(), head.size());
  const std::vector<unsigned char> zeros(kSmallBorder);
  uint64_t written = head.size();
  for (size_t i = 0; i < sections.size(); ++i) {
    while (written < offsets[i]) {
      const uint64_t count = std::min<uint64_t>(zeros.size(), offsets[i] - written);
      file.write(zeros.data(), count);
      written += count;
    }
    file.write(sections[i].data, sections[i].bytes);
    written += sections[i].bytes;
  }
  file.publish();
}

IndexFile::IndexFile(File file, File::Stamp stamp, IndexHeader header)
    : file_(std::move(file)), stamp_(stamp), header_(std::move(header)) {}

IndexFile IndexFile::open(const std::string& path) {
  File file = File::open_read(path);
  const File::Stamp stamp = file.stamp();
  std::vector<unsigned char> head(std::min(stamp.bytes, kIndexHeaderBytes));
  file.read(head.data(), head.size(), 0);
  IndexHeader header = parse_index_header(head.data(), stamp.bytes, base_name(path));
  IndexFile index(std::move(file), stamp, std::move(header));
  index.check_padding();
  return index;
}

// No byte of the file is free to change unseen.
void IndexFile::check_padding() const {
  std::vector<unsigned char> padding;
  uint64_t end = kIndexHeaderBytes;
  for (const IndexSection& section : header_.sections) {
    padding.resize(section.offset - end);  // below kLargeBorder
    file_.read(padding.data(), padding.size(), end);
    if (!all_zero(padding.data(), padding.size()))
      throw corrupt("the padding behind byte " + std::to_string(end) + " is not zero");
    end = section.offset + section.bytes;
  }
}

const IndexSection* IndexFile::find(SectionKind kind) const noexcept {
  for (const IndexSection& section : header_.sections) {
    if (section.kind == kind) return &section;
  }
  return nullptr;
}

void IndexFile::read(const IndexSection& section, void* to, size_t threads) const {
  auto* bytes = static_cast<unsigned char*>(to);
  compare(section, sum_pieces(section.bytes, threads, [&](uint64_t at, size_t count) {
            file_.read(bytes + at, count, section.offset + at);
            return crc32c(bytes + at, count);
          }));
}

void IndexFile::verify(const IndexSection& section, size_t threads) const {
  compare(section, sum_pieces(section.bytes, threads, [&](uint64_t at, size_t count) {
            std::vector<unsigned char> piece(count);
            file_.read(piece.data(), count, section.offset + at);
            return crc32c(piece.data(), count);
          }));
}

void IndexFile::verify(const IndexSection& section, const MappedFile& mapped, size_t threads) const {
  compare(section, checksum_of(mapped.data() + section.offset, section.bytes, threads));
}

std::shared_ptr<const MappedFile> IndexFile::map() const { return std::make_shared<MappedFile>(file_, stamp_.bytes); }

void IndexFile::compare(const IndexSection& section, uint32_t checksum) const {
  if (checksum != section.checksum) {
    throw corrupt("the section at byte " + std::to_string(section.offset) + " fails its checksum");
  }
}

Error IndexFile::corrupt(const std::string& why) const { return corrupt_error(name(), why); }

}  // namespace belfry
