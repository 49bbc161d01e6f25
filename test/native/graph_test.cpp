// The graph builder: what every graph must be, on awkward inputs, levels and thread counts; and that walks find.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "check.hpp"
#include "core/error.hpp"
#include "index/graph.hpp"
#include "kernel_tables.hpp"
#include "kernels/cpu.hpp"

namespace {

using namespace belfry;

enum class Data { kClusters, kNormal, kDuplicates, kAllEqual, kZero, kHeavyTail };

VectorSource make_vectors(Data kind, uint32_t rows, uint32_t dims, uint32_t seed) {
  auto values = std::make_shared<std::vector<float>>(size_t{rows} * dims);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, 1);
  std::vector<double> centres(size_t{20} * dims);
  for (double& x : centres) x = 2 * normal(random);
  for (uint32_t row = 0; row < rows; ++row) {
    const double size = kind == Data::kHeavyTail ? std::exp(normal(random)) : 1;
    const size_t centre = random() % 20 * dims;
    for (uint32_t d = 0; d < dims; ++d) {
      double value = normal(random) * size;
      if (kind == Data::kClusters) value += centres[centre + d];
      if (kind == Data::kZero) value = 0;
      if (kind == Data::kAllEqual && row > 0) value = double{(*values)[d]};
      if (kind == Data::kDuplicates && row >= 10) value = double{(*values)[size_t{row % 10} * dims + d]};
      (*values)[size_t{row} * dims + d] = static_cast<float>(value);
    }
  }
  return {values, reinterpret_cast<const unsigned char*>(values->data()), size_t{dims} * 4, RowFormat::kF32, rows,
          dims};
}

Graph build(const VectorSource& vectors, Metric metric, const GraphBuildOptions& options,
            const KernelTable& kernel = *available_kernels().front()) {
  BuildProgress progress;
  Graph graph = build_graph(vectors, metric, kernel, options, progress);
  CHECK(progress.done == progress.total);
  return graph;
}

void check_shape(const Graph& graph, uint32_t rows, uint32_t degree) {
  CHECK(graph.rows == rows && graph.degree == degree && graph.neighbours.size() == size_t{rows} * degree);
  std::vector<uint32_t> sorted = graph.order;
  std::sort(sorted.begin(), sorted.end());
  bool permutation = sorted.size() == rows;
  for (uint32_t i = 0; permutation && i < rows; ++i) permutation = sorted[i] == i;
  CHECK(permutation);
  CHECK(!graph.entries.empty() && graph.partition_starts.front() == 0 && graph.partition_starts.back() == rows);
  CHECK(std::adjacent_find(graph.partition_starts.begin(), graph.partition_starts.end(), std::greater_equal<>{}) ==
        graph.partition_starts.end());
  bool sound = true;
  for (uint32_t row = 0; row < rows; ++row) {
    std::set<uint32_t> seen{row};
    bool ended = false;
    for (uint32_t i = 0; i < degree; ++i) {
      const uint32_t next = graph.neighbours[size_t{row} * degree + i];
      ended = ended || next == kNoNeighbour;
      sound = sound && (ended ? next == kNoNeighbour : next < rows && seen.insert(next).second);
    }
  }
  CHECK(sound);
  std::vector<bool> reached(rows);
  std::vector<uint32_t> open;
  for (uint32_t entry : graph.entries) {
    CHECK(entry < rows);
    if (!reached[entry]) open.push_back(entry);
    reached[entry] = true;
  }
  for (size_t i = 0; i < open.size(); ++i) {
    for (uint32_t j = 0; j < degree; ++j) {
      const uint32_t next = graph.neighbours[size_t{open[i]} * degree + j];
      if (next == kNoNeighbour || reached[next]) continue;
      reached[next] = true;
      open.push_back(next);
    }
  }
  CHECK_MESSAGE(open.size() == rows, std::to_string(open.size()) + " of " + std::to_string(rows) + " rows reachable");
  CHECK(unreachable_rows(graph).empty());
}

bool same(const Graph& a, const Graph& b) {
  return a.order == b.order && a.entries == b.entries && a.partition_starts == b.partition_starts &&
         a.neighbours.size() == b.neighbours.size() &&
         std::memcmp(a.neighbours.data(), b.neighbours.data(), a.neighbours.bytes()) == 0;
}

double squared_distance(const VectorSource& vectors, uint32_t a, uint32_t b) {
  const auto* x = reinterpret_cast<const float*>(vectors.row(a));
  const auto* y = reinterpret_cast<const float*>(vectors.row(b));
  double sum = 0;
  for (uint32_t i = 0; i < vectors.dims; ++i) sum += (double{x[i]} - double{y[i]}) * (double{x[i]} - double{y[i]});
  return sum;
}

// recall@10 of best-first walks by L2 from the nearest entry, for rows of the set as queries.
double walk_recall(const VectorSource& vectors, const Graph& graph, size_t ef) {
  size_t found = 0, wanted = 0;
  for (uint32_t query = 3; query < graph.rows; query += graph.rows / 20) {
    std::vector<std::pair<double, uint32_t>> truth;
    for (uint32_t row = 0; row < graph.rows; ++row) {
      truth.emplace_back(squared_distance(vectors, graph.order[row], query), row);
    }
    std::set<std::pair<double, uint32_t>> pool, open;
    std::vector<bool> visited(graph.rows);
    const auto visit = [&](uint32_t row) {
      if (visited[row]) return;
      visited[row] = true;
      pool.insert(truth[row]);
      open.insert(truth[row]);
      if (pool.size() > ef) {
        open.erase(*pool.rbegin());
        pool.erase(std::prev(pool.end()));
      }
    };
    visit(*std::min_element(graph.entries.begin(), graph.entries.end(),
                            [&](uint32_t a, uint32_t b) { return truth[a] < truth[b]; }));
    while (!open.empty()) {
      const uint32_t row = open.begin()->second;
      open.erase(open.begin());
      for (uint32_t i = 0; i < graph.degree; ++i) {
        const uint32_t next = graph.neighbours[size_t{row} * graph.degree + i];
        if (next != kNoNeighbour) visit(next);
      }
    }
    std::nth_element(truth.begin(), truth.begin() + 9, truth.end());
    const double limit = truth[9].first;
    size_t hits = 0;
    for (const auto& [distance, row] : pool) hits += distance <= limit ? 1 : 0;
    found += std::min<size_t>(10, hits);
    wanted += 10;
  }
  return static_cast<double>(found) / static_cast<double>(wanted);
}

TEST(graphs_of_awkward_inputs_are_sound) {
  GraphBuildOptions options;
  options.degree = 16;
  options.candidates = 24;
  for (Data kind : {Data::kNormal, Data::kDuplicates, Data::kAllEqual, Data::kZero, Data::kHeavyTail}) {
    for (Metric metric : {Metric::kIp, Metric::kCosine, Metric::kL2}) {
      for (uint32_t rows : {1U, 2U, 3U, 17U, 64U, 65U, 1500U}) {
        const uint32_t dims = rows % 2 == 0 ? 7 : rows == 65 ? 1 : 33;
        check_shape(build(make_vectors(kind, rows, dims, rows), metric, options), rows, options.degree);
      }
    }
  }
}

TEST(a_graph_is_the_same_on_every_level_and_thread_count) {
  for (Data kind : {Data::kClusters, Data::kDuplicates}) {
    const VectorSource vectors = make_vectors(kind, test::kThreadsWatched ? 600 : 1200, 50, 5);
    GraphBuildOptions options;
    options.degree = 24;
    options.candidates = 32;
    options.pairs_per_row = 280;  // not all pairs
    const Graph judge = build(vectors, Metric::kL2, options);
    for (const KernelTable* table : test::all_tables()) {
      for (size_t threads : {1U, 2U, 5U}) {
        options.threads = threads;
        CHECK_MESSAGE(same(judge, build(vectors, Metric::kL2, options, *table)), table->name);
      }
    }
    options.seed = 2;
    CHECK(!same(judge, build(vectors, Metric::kL2, options)));
  }
}

TEST(walks_find_the_nearest_rows) {
  for (Data kind : {Data::kClusters, Data::kNormal, Data::kHeavyTail}) {
    const uint32_t rows = test::kThreadsWatched ? 1000 : 4000;  // one thread builds, and one walks
    const VectorSource vectors = make_vectors(kind, rows, 24, 11);
    GraphBuildOptions options;
    options.degree = 32;
    for (uint64_t pairs : {uint64_t{100'000}, uint64_t{800}}) {
      options.pairs_per_row = pairs;
      const Graph graph = build(vectors, Metric::kL2, options);
      check_shape(graph, rows, 32);
      const double recall = walk_recall(vectors, graph, 60);
      CHECK_MESSAGE(recall >= (pairs > 4000 ? 0.98 : 0.9),
                    std::to_string(static_cast<int>(kind)) + ": " + std::to_string(recall));
    }
  }
}

TEST(a_build_can_be_cancelled) {
  const VectorSource vectors = make_vectors(Data::kNormal, 20'000, 64, 3);
  BuildProgress progress;
  std::thread watcher([&] {
    while (progress.done == 0) std::this_thread::yield();
    progress.cancelled = true;
  });
  const char* code = "";
  try {
    GraphBuildOptions options;
    options.threads = 3;
    (void)build_graph(vectors, Metric::kIp, *available_kernels().front(), options, progress);
  } catch (const Error& error) {
    code = error.code();
  }
  watcher.join();
  CHECK(std::string(code) == codes::kClosed);
}

TEST(bad_options_and_vectors_are_refused) {
  const VectorSource good = make_vectors(Data::kNormal, 100, 8, 1);
  const auto refused = [&](const VectorSource& vectors, const GraphBuildOptions& options) -> std::string {
    BuildProgress progress;
    try {
      (void)build_graph(vectors, Metric::kL2, *available_kernels().front(), options, progress);
    } catch (const Error& error) {
      return std::string(error.code()) + " " + error.message();
    }
    return "accepted";
  };
  GraphBuildOptions options;
  options.degree = 12;
  CHECK(refused(good, options) == "BELFRY_INVALID_ARGUMENT degree: expected a multiple of 8, received 12");
  options = {};
  options.candidates = 4;
  CHECK(refused(good, options) == "BELFRY_INVALID_ARGUMENT candidates: expected an integer from 8 to 256, received 4");
  options = {};
  options.alpha = 0.5F;
  CHECK(refused(good, options).starts_with("BELFRY_INVALID_ARGUMENT alpha: expected a number from 1 to 16"));
  options = {};
  const VectorSource users = make_vectors(Data::kNormal, 10, 9, 1);
  options.users = &users;
  CHECK(refused(good, options) == "BELFRY_DIMS_MISMATCH users: expected dims 8, received 9");
  options = {};
  const VectorSource bad = make_vectors(Data::kNormal, 100, 8, 1);
  const float nan = std::nanf("");
  std::memcpy(const_cast<unsigned char*>(bad.row(42)) + 4, &nan, sizeof nan);
  CHECK(refused(bad, options).starts_with("BELFRY_BAD_VECTOR vectors: row 42 holds NaN"));
}

TEST(the_memory_of_a_build_is_stated_before_it) {
  GraphBuildOptions options;
  const size_t small = graph_build_memory(100'000, 100, options), large = graph_build_memory(200'000, 100, options);
  CHECK(small > 100'000 * (128 + 256 + 512) && small < 100'000 * size_t{3000});
  CHECK(large > small && large < 3 * small);
  options.degree = 32;
  CHECK(graph_build_memory(100'000, 100, options) < small);
}

}  // namespace
