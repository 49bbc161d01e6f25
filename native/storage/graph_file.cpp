#include "storage/graph_file.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/thread_pool.hpp"
#include "storage/index_file.hpp"

namespace belfry {

namespace {

constexpr uint32_t kRowsAtOnce = 16'384;  // checked by one thread

const char* metric_name(Metric metric) {
  switch (metric) {
    case Metric::kIp: return "ip";
    case Metric::kCosine: return "cosine";
    case Metric::kL2: return "l2";
  }
  return "";
}

// Neighbours first, each another row of the graph, then nothing but kNoNeighbour.
bool is_neighbour_list(const uint32_t* list, uint32_t degree, uint32_t row, uint32_t rows) {
  bool good = true, ended = false;
  for (uint32_t i = 0; i < degree; ++i) {
    const bool none = list[i] == kNoNeighbour;
    good = good && (none || (!ended && list[i] < rows && list[i] != row));
    ended = ended || none;
  }
  return good;
}

std::string neighbours_fault(const Graph& graph, size_t threads) {
  std::atomic<uint64_t> first{graph.rows};
  ThreadPool::instance().parallel_for((graph.rows + kRowsAtOnce - 1) / kRowsAtOnce, threads, [&](size_t chunk) {
    const auto begin = static_cast<uint32_t>(chunk * kRowsAtOnce);
    const uint32_t end = begin + std::min(kRowsAtOnce, graph.rows - begin);
    for (uint32_t row = begin; row < end; ++row) {
      if (is_neighbour_list(graph.neighbours.data() + size_t{row} * graph.degree, graph.degree, row, graph.rows)) {
        continue;
      }
      uint64_t before = first.load();
      while (row < before && !first.compare_exchange_weak(before, row)) {
      }
      return;
    }
  });
  return first == graph.rows ? std::string{}
                             : "row " + std::to_string(first.load()) + " has a neighbour that is not another row";
}

std::string order_fault(const Graph& graph) {
  std::vector<bool> seen(graph.rows);
  for (const uint32_t row : graph.order) {
    if (row >= graph.rows || seen[row]) return "the order of rows is not a permutation";
    seen[row] = true;
  }
  return {};
}

std::string partitions_fault(const Graph& graph) {
  const std::vector<uint32_t>& starts = graph.partition_starts;
  if (starts.front() != 0 || starts.back() != graph.rows) return "the partitions do not cover the rows";
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    if (starts[i] >= starts[i + 1]) return "partition " + std::to_string(i) + " is empty or out of order";
    if (graph.entries[i] < starts[i] || graph.entries[i] >= starts[i + 1]) {
      return "the entry of partition " + std::to_string(i) + " is not in it";
    }
  }
  for (const uint32_t entry : graph.entries) {
    if (entry >= graph.rows) return "an entry is not a row";
  }
  return {};
}

// What would make a search read outside the graph or return a wrong row; empty: nothing. Sizes are checked already.
std::string contents_fault(const Graph& graph, size_t threads) {
  if (std::string fault = neighbours_fault(graph, threads); !fault.empty()) return fault;
  if (std::string fault = order_fault(graph); !fault.empty()) return fault;
  return partitions_fault(graph);
}

bool is_degree(uint32_t degree) { return degree >= 8 && degree <= kDegreeMax && degree % 8 == 0; }

std::string sizes_fault(uint64_t rows, uint64_t degree, uint64_t neighbours, uint64_t order, uint64_t entries,
                        uint64_t starts) {
  if (neighbours != rows * degree) return "holds " + std::to_string(neighbours) + " neighbours";
  if (order != rows) return "holds an order of " + std::to_string(order) + " rows";
  if (entries < 1 || entries > rows) return "holds " + std::to_string(entries) + " entries";
  if (starts < 2 || starts > entries + 1) return "holds " + std::to_string(starts) + " partition starts";
  return {};
}

void check_written(const Graph& graph, size_t threads) {
  std::string fault = is_degree(graph.degree) ? std::string{} : "has degree " + std::to_string(graph.degree);
  if (fault.empty()) {
    fault = sizes_fault(graph.rows, graph.degree, graph.neighbours.size(), graph.order.size(), graph.entries.size(),
                        graph.partition_starts.size());
  }
  if (fault.empty()) fault = contents_fault(graph, threads);
  if (!fault.empty()) throw Error(codes::kInternal, "a graph that cannot be written: " + fault);
}

template <class Values>
SectionSource source_of(SectionKind kind, const Values& values) {
  return {kind, sizeof(*values.data()), values.data(), values.size() * sizeof(*values.data())};
}

void check_identity(const IndexFile& file, const GraphIdentity& expected) {
  const auto compare = [&](const char* what, const std::string& wanted, const std::string& found) {
    if (wanted == found) return;
    throw Error(codes::kIndexMismatch,
                file.name() + ": expected an index of " + what + " " + wanted + ", found " + found +
                    "; it belongs to another export, build the index again",
                what);
  };
  const IndexHeader& header = file.header();
  compare("rows", std::to_string(expected.rows), std::to_string(header.rows));
  compare("dims", std::to_string(expected.dims), std::to_string(header.dims));
  compare("metric", metric_name(expected.metric), metric_name(header.metric));
  compare("vectors", expected.vectors, header.vectors);
}

const IndexSection& section_of(const IndexFile& file, SectionKind kind, uint32_t element_bytes) {
  const IndexSection* section = file.find(kind);
  if (section == nullptr) throw file.corrupt("has no section of kind " + std::to_string(static_cast<uint32_t>(kind)));
  if (section->element_bytes != element_bytes) {
    throw file.corrupt("has elements of " + std::to_string(section->element_bytes) + " bytes in section kind " +
                       std::to_string(static_cast<uint32_t>(kind)));
  }
  return *section;
}

std::vector<uint32_t> read_words(const IndexFile& file, const IndexSection& section, size_t threads) {
  std::vector<uint32_t> words(section.bytes / sizeof(uint32_t));
  file.read(section, words.data(), threads);
  return words;
}

}  // namespace

void check_graph_texts(const std::string& vectors, const std::string& notes) {
  if (!is_fingerprint(vectors)) {
    throw invalid_argument("vectors",
                           "1 to " + std::to_string(kFingerprintMax) + " printable ASCII characters without a space",
                           std::to_string(vectors.size()) + " bytes");
  }
  if (notes.size() > kNotesBytesMax) {
    throw invalid_argument("notes", "at most " + std::to_string(kNotesBytesMax) + " bytes",
                           std::to_string(notes.size()));
  }
}

void write_graph(const std::string& path, const Graph& graph, const GraphIdentity& identity, const std::string& notes,
                 size_t threads) {
  check_graph_texts(identity.vectors, notes);
  if (identity.rows != graph.rows) {
    throw invalid_argument("rows", std::to_string(graph.rows) + " as in the graph", std::to_string(identity.rows));
  }
  check_written(graph, threads);
  IndexHeader header;
  header.rows = graph.rows;
  header.dims = identity.dims;
  header.degree = graph.degree;
  header.metric = identity.metric;
  header.seed = graph.seed;
  header.alpha = graph.alpha;
  header.query_edges = graph.query_edges;
  header.vectors = identity.vectors;
  // The largest last, so that what is small stays together at the front.
  write_index_file(path, header,
                   {source_of(SectionKind::kNotes, notes), source_of(SectionKind::kPartitions, graph.partition_starts),
                    source_of(SectionKind::kEntries, graph.entries), source_of(SectionKind::kOrder, graph.order),
                    source_of(SectionKind::kNeighbours, graph.neighbours)},
                   threads);
}

LoadedGraph read_graph(const std::string& path, const GraphIdentity& expected, LoadMode mode, size_t threads) {
  const IndexFile file = IndexFile::open(path);
  check_identity(file, expected);
  const IndexHeader& header = file.header();
  if (!is_degree(header.degree)) throw file.corrupt("has degree " + std::to_string(header.degree));
  if (header.query_edges > header.degree) throw file.corrupt("has more query edges than its degree");
  const IndexSection& notes = section_of(file, SectionKind::kNotes, 1);
  const IndexSection& starts = section_of(file, SectionKind::kPartitions, sizeof(uint32_t));
  const IndexSection& entries = section_of(file, SectionKind::kEntries, sizeof(uint32_t));
  const IndexSection& order = section_of(file, SectionKind::kOrder, sizeof(uint32_t));
  const IndexSection& neighbours = section_of(file, SectionKind::kNeighbours, sizeof(uint32_t));
  if (notes.bytes > kNotesBytesMax) throw file.corrupt("has notes of " + std::to_string(notes.bytes) + " bytes");
  const std::string fault = sizes_fault(header.rows, header.degree, neighbours.bytes / 4, order.bytes / 4,
                                        entries.bytes / 4, starts.bytes / 4);
  if (!fault.empty()) throw file.corrupt(fault);

  LoadedGraph loaded;
  Graph& graph = loaded.graph;
  graph.rows = static_cast<uint32_t>(header.rows);
  graph.degree = header.degree;
  graph.query_edges = header.query_edges;
  graph.seed = header.seed;
  graph.alpha = header.alpha;
  graph.partition_starts = read_words(file, starts, threads);
  graph.entries = read_words(file, entries, threads);
  graph.order = read_words(file, order, threads);
  loaded.notes.resize(notes.bytes);
  file.read(notes, loaded.notes.data(), threads);
  if (mode == LoadMode::kMmap) {
    const std::shared_ptr<const MappedFile> mapped = file.map();
    file.verify(neighbours, *mapped, threads);
    graph.neighbours = AlignedBuffer<uint32_t>::borrow(
        reinterpret_cast<const uint32_t*>(mapped->data() + neighbours.offset), neighbours.bytes / 4, mapped);
  } else {
    graph.neighbours = AlignedBuffer<uint32_t>(neighbours.bytes / 4);
    file.read(neighbours, graph.neighbours.data(), threads);
  }
  for (const IndexSection& section : header.sections) {
    if (section.kind > SectionKind::kNotes) file.verify(section, threads);  // of a later Belfry
  }
  file.check_unchanged();
  if (const std::string wrong = contents_fault(graph, threads); !wrong.empty()) throw file.corrupt(wrong);
  return loaded;
}

}  // namespace belfry
