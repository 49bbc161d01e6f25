// libFuzzer target: whatever an index file holds, reading it gives a sound graph or a belfry::Error. Each input is read
// as it is, and with its size, padding and checksums set right, which is where the deeper checks begin.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

#include "core/error.hpp"
#include "index_file_bytes.hpp"
#include "memory_file.hpp"
#include "storage/graph_file.hpp"
#include "storage/index_file.hpp"

namespace {

using namespace belfry;
using namespace belfry::test;

constexpr size_t kPageBytes = 4096;  // the header, and the border on which sections start

// Follows every number that a search would follow. ASan watches the reads, the traps the promises.
void use(const Graph& graph) {
  for (size_t i = 0; i < graph.neighbours.size(); ++i) {
    if (graph.neighbours[i] != kNoNeighbour && graph.neighbours[i] >= graph.rows) __builtin_trap();
  }
  uint64_t sum = 0;
  for (const uint32_t entry : graph.entries) sum += graph.neighbours[size_t{entry} * graph.degree] ^ graph.order[entry];
  for (const uint32_t row : graph.order) sum += graph.order[row];
  if (graph.partition_starts.size() > graph.entries.size() + 1 || sum == UINT64_MAX) __builtin_trap();
}

// Zeroes what lies between the end of a section and the border before the next one.
void repair_padding(std::string& bytes) {
  const uint32_t sections = get<uint32_t>(bytes, 12);
  for (uint32_t i = 0; i < sections && i < kIndexSectionsMax; ++i) {
    const size_t at = kTableAt + i * kTableEntry;
    const auto offset = get<uint64_t>(bytes, at + 8), length = get<uint64_t>(bytes, at + 16);
    if (length > bytes.size() || offset > bytes.size() - length) continue;
    for (size_t byte = offset + length; byte < bytes.size() && byte % kPageBytes != 0; ++byte) bytes[byte] = 0;
  }
}

void read(const MemoryFile& file, LoadMode mode) {
  try {
    const IndexHeader header = IndexFile::open(file.path()).header();
    // The caller's expectation is no obstacle here: it is whatever the file claims, within what a test can hold.
    if (header.rows > 100'000) return;
    const GraphIdentity identity{static_cast<uint32_t>(header.rows), header.dims, header.metric, header.vectors};
    use(read_graph(file.path(), identity, mode, 1).graph);
  } catch (const Error&) {
    // refused: fine
  }
}

}  // namespace

// `--seeds FOLDER` writes the seed corpus.
extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  if (*count != 3 || std::string((*arguments)[1]) != "--seeds") return 0;
  const std::string folder = (*arguments)[2];
  for (const uint32_t rows : {1U, 2U, 30U, 300U}) {
    for (const uint32_t degree : {8U, 64U}) {
      const std::string name = folder + "/" + std::to_string(rows) + "-" + std::to_string(degree);
      write_graph(name, sample_graph(rows, degree, rows), sample_identity(rows), R"({"ef":[16]})", 1);
    }
  }
  std::exit(0);
}

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

// Most of a small file is zeros. Every other change goes to a word of the header or of the section table.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max, unsigned seed) {
  std::minstd_rand random(seed);
  if (size < kPageBytes || random() % 2 == 0) return LLVMFuzzerMutate(data, size, size_max);
  const size_t words = (kTableAt + 5 * kTableEntry) / 4;
  (void)LLVMFuzzerMutate(data + random() % words * 4, 4, 4);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static MemoryFile file;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  file.set(bytes.data(), bytes.size());
  read(file, LoadMode::kHuge);
  if (size < kPageBytes) return 0;
  put(bytes, 16, uint64_t{bytes.size()});
  repair_padding(bytes);
  repair_checksums(bytes);
  file.set(bytes.data(), bytes.size());
  read(file, size % 2 == 0 ? LoadMode::kHuge : LoadMode::kMmap);
  return 0;
}
