#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "check.hpp"
#include "core/error.hpp"
#include "index_file_bytes.hpp"
#include "storage/graph_file.hpp"
#include "storage/index_file.hpp"

namespace {

using namespace belfry;
using namespace belfry::test;

constexpr uint32_t kRows = 40, kDegree = 8;

struct Folder {
  std::string path;
  Folder() {
    char name[] = "/tmp/belfry-index-XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string operator/(const std::string& name) const { return path + "/" + name; }
  size_t files() const { return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path), {})); }
};

// `code: message` of what read_graph does with a file; "read" when it reads it.
std::string outcome_of(const std::string& path, const GraphIdentity& identity, LoadMode mode = LoadMode::kHuge) {
  try {
    (void)read_graph(path, identity, mode, 2);
    return "read";
  } catch (const Error& error) {
    return std::string(error.code()) + ": " + error.what();
  }
}
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
void expect(const std::string& outcome, const std::string& code, const std::string& part) {
  CHECK_MESSAGE(outcome.rfind(code + ": ", 0) == 0 && contains(outcome, part),
                code + " ... " + part + " <> " + outcome);
}

// A good file of kRows rows, and a copy to damage.
struct Sample {
  Folder folder;
  std::string path = folder / "graph.index";
  GraphIdentity identity = sample_identity(kRows);
  std::string bytes;
  Sample() {
    write_graph(path, sample_graph(kRows, kDegree, 5), identity, R"({"ef": [16, 32]})", 1);
    bytes = read_bytes(path);
  }
  // Both modes agree on what is wrong.
  std::string outcome(const std::string& damaged) {
    write_bytes(path, damaged);
    const std::string outcome = outcome_of(path, identity);
    CHECK(outcome_of(path, identity, LoadMode::kMmap) == outcome);
    return outcome;
  }
  std::string outcome_repaired(std::string damaged) {
    repair_checksums(damaged);
    return outcome(damaged);
  }
  size_t section(SectionKind kind) const {
    for (size_t i = 0;; ++i) {
      if (get<uint32_t>(bytes, kTableAt + i * kTableEntry) == static_cast<uint32_t>(kind))
        return kTableAt + i * kTableEntry;
    }
  }
  size_t offset(SectionKind kind) const { return get<uint64_t>(bytes, section(kind) + 8); }
};

TEST(an_index_file_gives_back_what_was_written) {
  const Folder folder;
  const std::string path = folder / "graph.index";
  for (const uint32_t rows : {1U, 2U, 63U, 5000U, 150'000U}) {
    const Graph graph = sample_graph(rows, 32, seed(rows));
    const std::string notes = rows == 2 ? "" : "{\"builder\": \"f\xc3\xbcr\"}";
    write_graph(path, graph, sample_identity(rows), notes, 2);
    CHECK(folder.files() == 1);
    for (const LoadMode mode : {LoadMode::kHuge, LoadMode::kMmap}) {
      const LoadedGraph loaded = read_graph(path, sample_identity(rows), mode, 2);
      const Graph& copy = loaded.graph;
      CHECK(loaded.notes == notes);
      CHECK(copy.rows == graph.rows && copy.degree == graph.degree && copy.query_edges == graph.query_edges);
      CHECK(copy.seed == graph.seed && copy.alpha == graph.alpha);
      CHECK(copy.order == graph.order && copy.entries == graph.entries);
      CHECK(copy.partition_starts == graph.partition_starts);
      CHECK(copy.neighbours.size() == graph.neighbours.size() &&
            std::memcmp(copy.neighbours.data(), graph.neighbours.data(), graph.neighbours.bytes()) == 0);
    }
  }
  // A small file is small; the neighbours of a large one start where a huge page can.
  CHECK(IndexFile::open(path).find(SectionKind::kNeighbours)->offset % (size_t{2} << 20) == 0);
  write_graph(path, sample_graph(1000, 64, 1), sample_identity(1000), "", 1);
  CHECK(std::filesystem::file_size(path) < 1000 * 64 * 4 + 20'000);
}

TEST(the_bytes_of_format_version_1_stay) {
  const Folder folder;
  Graph graph;
  graph.rows = 9;
  graph.degree = 8;
  graph.query_edges = 2;
  graph.seed = 7;
  graph.alpha = 1.2F;
  graph.neighbours = AlignedBuffer<uint32_t>(72);
  for (uint32_t i = 0; i < 72; ++i) graph.neighbours[i] = i % 8 < 5 ? (i / 8 + 1 + i % 8) % 9 : kNoNeighbour;
  graph.order = {8, 3, 5, 1, 0, 2, 7, 6, 4};
  graph.partition_starts = {0, 4, 9};
  graph.entries = {1, 6};
  write_graph(folder / "x", graph, {9, 4, Metric::kIp, "abc"}, "{}", 1);
  const std::string bytes = read_bytes(folder / "x");
  const uint32_t found = crc32c(bytes.data(), bytes.size());
  CHECK_MESSAGE(
      bytes.size() == 20'768 && found == 0x49c06733U,
      "a change of the format needs a new version: " + std::to_string(bytes.size()) + " " + std::to_string(found));
}

TEST(an_index_file_of_other_vectors_is_refused) {
  Sample sample;
  const auto with = [&](auto change) {
    GraphIdentity other = sample.identity;
    change(other);
    return outcome_of(sample.path, other);
  };
  const char* code = "BELFRY_INDEX_MISMATCH";
  expect(with([](GraphIdentity& i) { i.rows = 41; }), code, "graph.index: expected an index of rows 41, found 40");
  expect(with([](GraphIdentity& i) { i.dims = 64; }), code, "expected an index of dims 64, found 48");
  expect(with([](GraphIdentity& i) { i.metric = Metric::kL2; }), code, "expected an index of metric l2, found cosine");
  expect(with([](GraphIdentity& i) { i.vectors = "other"; }), code, "of vectors other, found sha256:5e884898da28");
}

TEST(an_index_file_cut_off_anywhere_is_refused) {
  Sample sample;
  std::vector<size_t> lengths = {0, 1, 7, 8, 12, 127, 128, 4091, 4092, 4095, 4096, sample.bytes.size() - 1};
  for (size_t i = 0; i < 5; ++i) {
    const size_t at = kTableAt + i * kTableEntry;
    const uint64_t begin = get<uint64_t>(sample.bytes, at + 8), end = begin + get<uint64_t>(sample.bytes, at + 16);
    for (const uint64_t border : {begin, end}) {
      for (const uint64_t length : {border - 1, border, border + 1}) {
        if (length < sample.bytes.size()) lengths.push_back(length);
      }
    }
  }
  for (const size_t length : lengths) {
    const std::string cut = sample.bytes.substr(0, length);
    expect(sample.outcome(cut), "BELFRY_FILE_CORRUPT", "the file has " + std::to_string(length));
    // The same by somebody who also writes the smaller size into the header.
    if (length >= 4096) {
      std::string told = cut;
      put<uint64_t>(told, 16, length);
      expect(sample.outcome_repaired(told), "BELFRY_FILE_CORRUPT", "section");
    }
  }
  expect(sample.outcome(sample.bytes + '\0'), "BELFRY_FILE_CORRUPT", "the file has");
}

TEST(every_byte_of_an_index_file_header_counts) {
  Sample sample;
  for (size_t at = 0; at < 4096; at += test::kLessOften) {
    std::string damaged = sample.bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    const char* code = at >= 8 && at < 12 ? "BELFRY_FILE_VERSION" : "BELFRY_FILE_CORRUPT";
    expect(sample.outcome(damaged), code, "graph.index: ");
  }
}

TEST(a_header_with_right_checksums_and_wrong_fields_is_refused) {
  Sample sample;
  const auto field = [&](size_t at, auto value, const char* part, const char* code = "BELFRY_FILE_CORRUPT") {
    std::string damaged = sample.bytes;
    put(damaged, at, value);
    expect(sample.outcome_repaired(damaged), code, part);
  };
  field(0, uint64_t{0}, "does not start as an index file does");
  field(8, uint32_t{2}, "expected format version 1, found 2", "BELFRY_FILE_VERSION");
  field(12, uint32_t{0}, "bytes behind its last section");
  field(12, uint32_t{4}, "bytes behind its last section");
  field(12, uint32_t{6}, "section 5");
  field(12, uint32_t{33}, "the number of sections is 33");
  field(12, ~uint32_t{0}, "the number of sections is 4294967295");
  field(16, ~uint64_t{0}, "expected 18446744073709551615 bytes");
  field(24, uint64_t{0}, "rows is 0");
  field(24, ~uint64_t{0}, "rows is 18446744073709551615");
  field(24, (uint64_t{1} << 32) + kRows, "rows is 4294967336");
  field(24, uint64_t{41}, "expected an index of rows 40, found 41", "BELFRY_INDEX_MISMATCH");
  field(32, uint32_t{0}, "dims is 0");
  field(32, uint32_t{4097}, "dims is 4097");
  field(36, uint32_t{0}, "has degree 0");
  field(36, uint32_t{9}, "has degree 9");
  field(36, uint32_t{16}, "holds 320 neighbours");
  field(36, ~uint32_t{0}, "has degree 4294967295");
  field(40, uint32_t{3}, "metric is 3");
  field(44, uint32_t{1}, "layout flags is 1");
  field(56, uint32_t{0x7fc00000}, "alpha is not finite");
  field(60, uint32_t{9}, "more query edges than its degree");
  field(64, '\0', "fingerprint");
  field(64, '\n', "fingerprint");
  field(127, 'x', "reserved bytes");
  field(4091, 'x', "reserved bytes");
  const size_t order = sample.section(SectionKind::kOrder);
  field(order, uint32_t{0}, "has no kind");
  field(order, uint32_t{77}, "has no section of kind 2");
  field(order, static_cast<uint32_t>(SectionKind::kEntries), "is a second one of kind 3");
  for (const uint32_t element : {0U, 3U, 16U, ~0U}) field(order + 4, element, "in elements of");
  field(order + 4, uint32_t{8}, "has elements of 8 bytes in section kind 2");
  for (const uint64_t offset : {uint64_t{0}, uint64_t{4096}, uint64_t{4097}, ~uint64_t{0}, ~uint64_t{0} - 159}) {
    field(order + 8, offset, "not behind the one before");
  }
  field(order + 16, uint64_t{0}, "not behind the one before");
  field(order + 16, uint64_t{156}, "is not zero");  // its last word is padding now
  field(order + 16, uint64_t{164}, "holds an order of 41 rows");
  for (const uint64_t length : {uint64_t{1} << 20, uint64_t{1} << 62, ~uint64_t{0} - 3}) {
    field(order + 16, length, "is longer than the file");
  }
  const size_t starts = sample.section(SectionKind::kPartitions) + 16;
  std::string damaged = sample.bytes;
  std::memset(damaged.data() + sample.offset(SectionKind::kPartitions), 0, get<uint64_t>(damaged, starts));
  put(damaged, starts, uint64_t{4});
  expect(sample.outcome_repaired(damaged), "BELFRY_FILE_CORRUPT", "holds 1 partition starts");
  field(order + 28, uint32_t{1}, "uses reserved bytes");
  CHECK(sample.outcome_repaired(sample.bytes) == "read");
}

TEST(a_flipped_bit_in_an_index_file_is_found) {
  Sample sample;
  std::mt19937_64 random(seed(11));
  for (int i = 0; i < 10'000 / test::kLessOften; ++i) {
    std::string damaged = sample.bytes;
    const uint64_t bit = random() % (damaged.size() * 8);
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    write_bytes(sample.path, damaged);
    const std::string outcome =
        outcome_of(sample.path, sample.identity, i % 2 == 0 ? LoadMode::kHuge : LoadMode::kMmap);
    CHECK_MESSAGE(contains(outcome, "BELFRY_FILE_"), "bit " + std::to_string(bit) + ": " + outcome);
  }
}

TEST(row_numbers_that_lead_nowhere_are_refused_behind_right_checksums) {
  Sample sample;
  const auto word = [&](SectionKind kind, size_t index, uint32_t value, const char* part) {
    std::string damaged = sample.bytes;
    put(damaged, sample.offset(kind) + 4 * index, value);
    expect(sample.outcome_repaired(damaged), "BELFRY_FILE_CORRUPT", part);
  };
  const uint32_t* lists =
      reinterpret_cast<const uint32_t*>(sample.bytes.data() + sample.offset(SectionKind::kNeighbours));
  uint32_t full = 0, partial = 0;  // rows whose lists have all, and some, slots in use
  while (lists[full * kDegree + kDegree - 1] == kNoNeighbour) ++full;
  while (lists[partial * kDegree] == kNoNeighbour || lists[partial * kDegree + kDegree - 1] != kNoNeighbour) ++partial;
  const auto names = [](uint32_t row) {
    return "row " + std::to_string(row) + " has a neighbour that is not another row";
  };
  for (const uint32_t bad : {kRows, kRows + 1, 0x7fffffffU, 0xfffffffeU}) {
    word(SectionKind::kNeighbours, size_t{full} * kDegree + 3, bad, names(full).c_str());
  }
  word(SectionKind::kNeighbours, size_t{full} * kDegree, kNoNeighbour, names(full).c_str());
  word(SectionKind::kNeighbours, size_t{full} * kDegree, full, names(full).c_str());
  word(SectionKind::kNeighbours, size_t{partial} * kDegree, kNoNeighbour,
       lists[partial * kDegree + 1] == kNoNeighbour ? "" : names(partial).c_str());
  word(SectionKind::kNeighbours, size_t{partial} * kDegree + kDegree - 1, 0, "");
  const size_t order = sample.offset(SectionKind::kOrder);
  word(SectionKind::kOrder, 0, kRows, "the order of rows is not a permutation");
  word(SectionKind::kOrder, 0, ~0U, "the order of rows is not a permutation");
  word(SectionKind::kOrder, 0, get<uint32_t>(sample.bytes, order + 4), "the order of rows is not a permutation");
  word(SectionKind::kEntries, 0, kRows, "the entry of partition 0 is not in it");
  word(SectionKind::kEntries, 0, ~0U, "the entry of partition 0 is not in it");
  const size_t extra = get<uint64_t>(sample.bytes, sample.section(SectionKind::kEntries) + 16) / 4 - 1;
  word(SectionKind::kEntries, extra, kRows, "an entry is not a row");
  word(SectionKind::kPartitions, 0, 1, "the partitions do not cover the rows");
  word(SectionKind::kPartitions, 1, 0, "partition 0 is empty or out of order");
  word(SectionKind::kPartitions, 1, ~0U, "");
  const size_t last = get<uint64_t>(sample.bytes, sample.section(SectionKind::kPartitions) + 16) / 4 - 1;
  word(SectionKind::kPartitions, last, kRows + 1, "the partitions do not cover the rows");
}

TEST(what_is_no_regular_file_is_no_index) {
  const Folder folder;
  const GraphIdentity identity = sample_identity(kRows);
  expect(outcome_of(folder / "absent", identity), "BELFRY_FILE_UNREADABLE", "absent: cannot be opened");
  expect(outcome_of(folder.path, identity), "BELFRY_FILE_UNREADABLE", "found a folder");
  CHECK(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  expect(outcome_of(folder / "pipe", identity), "BELFRY_FILE_UNREADABLE", "found a device or pipe");
  expect(outcome_of("/dev/zero", identity), "BELFRY_FILE_UNREADABLE", "found a device or pipe");
  write_bytes(folder / "empty", "");
  expect(outcome_of(folder / "empty", identity), "BELFRY_FILE_CORRUPT",
         "expected a header of 4096 bytes, the file has 0");
  write_bytes(folder / "other", std::string(8192, '\x93'));
  expect(outcome_of(folder / "other", identity), "BELFRY_FILE_CORRUPT", "does not start as an index file does");
  if (geteuid() != 0) {
    write_bytes(folder / "secret", "x");
    CHECK(chmod((folder / "secret").c_str(), 0) == 0);
    expect(outcome_of(folder / "secret", identity), "BELFRY_FILE_UNREADABLE", "secret: cannot be opened");
  }
}

}  // namespace
