// Walks over a graph: one answer on every level and number of threads, k hits whenever k allowed rows exist, and the
// recall that a good graph must give. The graph is made here, by brute force, so that nothing depends on the builder.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <vector>

#include "check.hpp"
#include "core/exclusions.hpp"
#include "index/exact_index.hpp"
#include "kernel_tables.hpp"
#include "kernels/cpu.hpp"

namespace {

using namespace belfry;

enum class Data { kClusters, kDuplicates, kZeros, kHeavyTail };

VectorSource make_vectors(Data kind, uint32_t rows, uint32_t dims, uint32_t seed) {
  auto values = std::make_shared<std::vector<float>>(size_t{rows} * dims);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1);
  for (uint32_t row = 0; row < rows; ++row) {
    std::mt19937 cluster(kind == Data::kDuplicates ? row % 7 : row % 20);
    const float size = kind == Data::kHeavyTail ? std::exp(1.5F * normal(random)) : 1;
    for (uint32_t d = 0; d < dims; ++d) {
      const float centre = std::normal_distribution<float>(0, 1)(cluster);
      const float noise = kind == Data::kDuplicates ? 0 : 0.7F * normal(random);
      (*values)[size_t{row} * dims + d] = kind == Data::kZeros && row % 3 != 0 ? 0 : size * (centre + noise);
    }
  }
  return {values, reinterpret_cast<const unsigned char*>(values->data()), size_t{dims} * 4, RowFormat::kF32, rows,
          dims};
}

// Nearest neighbours by brute force and some random ones, in a shuffled order of rows.
Graph make_graph(const VectorSource& vectors, Metric metric, uint32_t degree, uint32_t seed) {
  const uint32_t rows = vectors.rows, dims = vectors.dims;
  const auto* x = reinterpret_cast<const float*>(vectors.base);
  std::vector<double> norm(rows, 1);
  for (uint32_t r = 0; r < rows && metric == Metric::kCosine; ++r) {
    norm[r] = std::sqrt(std::inner_product(x + r * dims, x + r * dims + dims, x + r * dims, 0.0));
    if (norm[r] == 0) norm[r] = 1;
  }
  Graph graph;
  graph.rows = rows;
  graph.degree = degree;
  graph.order.resize(rows);
  std::iota(graph.order.begin(), graph.order.end(), 0);
  std::mt19937 random(seed);
  std::shuffle(graph.order.begin(), graph.order.end(), random);
  graph.neighbours = AlignedBuffer<uint32_t>(size_t{rows} * degree);
  std::fill_n(graph.neighbours.data(), size_t{rows} * degree, kNoNeighbour);
  for (uint32_t i = 0; i < rows; ++i) {
    std::vector<std::pair<double, uint32_t>> near;
    for (uint32_t j = 0; j < rows; ++j) {
      if (i == j) continue;
      double distance = 0;
      for (uint32_t d = 0; d < dims; ++d) {
        const double difference = x[size_t{graph.order[i]} * dims + d] / norm[graph.order[i]] -
                                  x[size_t{graph.order[j]} * dims + d] / norm[graph.order[j]];
        distance += difference * difference;
      }
      near.emplace_back(distance, j);
    }
    const size_t close = std::min<size_t>(near.size(), degree * 3 / 4);
    std::partial_sort(near.begin(), near.begin() + static_cast<std::ptrdiff_t>(close), near.end());
    std::set<uint32_t> seen;
    uint32_t* list = graph.neighbours.data() + size_t{i} * degree;
    for (size_t n = 0; n < close; ++n) {
      list[seen.size()] = near[n].second;
      seen.insert(near[n].second);
    }
    while (seen.size() < std::min<size_t>(degree, near.size())) {
      const auto other = static_cast<uint32_t>(random() % rows);
      if (other == i || seen.count(other) != 0) continue;
      list[seen.size()] = other;
      seen.insert(other);
    }
  }
  for (uint32_t e = 0; e < std::min(rows, 20U); ++e) graph.entries.push_back(e * (rows / std::min(rows, 20U)));
  graph.partition_starts = {0, rows};
  return graph;
}

Graph copy_of(const Graph& graph) {
  Graph copy;
  copy.rows = graph.rows;
  copy.degree = graph.degree;
  copy.order = graph.order;
  copy.entries = graph.entries;
  copy.partition_starts = graph.partition_starts;
  copy.neighbours = AlignedBuffer<uint32_t>(graph.neighbours.size());
  std::copy_n(graph.neighbours.data(), graph.neighbours.size(), copy.neighbours.data());
  return copy;
}

SearchParams walk_params(uint32_t k, uint32_t ef) {
  SearchParams params;
  params.mode = SearchMode::kWalk;
  params.k = k;
  params.ef = ef;
  params.stop = 1.3F;
  params.rescore = k + 10;
  return params;
}

// Share of the true top k by score, so that ties are no misses.
double recall(const Hits& hits, const Hits& truth, size_t queries, uint32_t k) {
  double found = 0, wanted = 0;
  for (size_t q = 0; q < queries; ++q) {
    const uint32_t there = truth.counts[q];
    wanted += there;
    for (uint32_t i = 0; i < hits.counts[q]; ++i) found += hits.scores[q * k + i] >= truth.scores[q * k + there - 1];
  }
  return wanted == 0 ? 1 : found / wanted;
}

TEST(a_walk_gives_one_answer_on_every_level_and_number_of_threads) {
  for (Metric metric : {Metric::kIp, Metric::kCosine, Metric::kL2}) {
    for (uint32_t dims : {3U, 56U, 60U, 61U, 64U, 100U, 128U, 180U, 250U, 300U}) {
      const uint32_t rows = 700, queries = 20, k = 10;
      const VectorSource vectors = make_vectors(Data::kHeavyTail, rows, dims, test::seed(dims));
      const VectorSource points = make_vectors(Data::kClusters, queries, dims, test::seed(dims + 1));
      const auto* query = reinterpret_cast<const float*>(points.base);
      const Graph graph = make_graph(vectors, metric, 16, 1);
      RowFilter half(rows);
      for (uint32_t row = 0; row < rows; row += 2) half.drop(row);
      for (const RowFilter* filter : {static_cast<const RowFilter*>(nullptr), static_cast<const RowFilter*>(&half)}) {
        std::optional<Hits> judge;
        for (const KernelTable* table : test::all_tables()) {
          for (size_t threads : {1U, 3U}) {
            const ExactIndex index(vectors, metric, *table, threads, copy_of(graph));
            SearchParams params = walk_params(k, 30);
            params.filter = filter;
            const Hits hits = index.search(query, queries, params);
            if (!judge) judge = hits;
            CHECK_MESSAGE(hits.rows == judge->rows && hits.scores == judge->scores && hits.scored == judge->scored &&
                              hits.expanded == judge->expanded,
                          std::string(table->name) + " dims " + std::to_string(dims));
          }
        }
      }
    }
  }
}

TEST(a_walk_over_a_good_graph_finds_nearly_everything) {
  for (Metric metric : {Metric::kIp, Metric::kCosine, Metric::kL2}) {
    const uint32_t rows = 4000, dims = 24, queries = 100, k = 10;
    const VectorSource vectors = make_vectors(Data::kClusters, rows, dims, 5);
    const VectorSource points = make_vectors(Data::kClusters, queries, dims, 6);
    const auto* query = reinterpret_cast<const float*>(points.base);
    const ExactIndex index(vectors, metric, *available_kernels().front(), 1, make_graph(vectors, metric, 32, 2));
    SearchParams exact;
    exact.k = k;
    const Hits truth = index.search(query, queries, exact);
    const Hits hits = index.search(query, queries, walk_params(k, 100));
    CHECK_MESSAGE(recall(hits, truth, queries, k) > 0.95, std::to_string(recall(hits, truth, queries, k)));
    CHECK(hits.path == SearchPath::kWalk && hits.fallbacks == 0);
    CHECK(hits.scored < uint64_t{queries} * rows / 2);
  }
}

TEST(k_hits_whenever_k_allowed_rows_exist) {
  for (Data kind : {Data::kClusters, Data::kDuplicates, Data::kZeros}) {
    for (uint32_t rows : {1U, 2U, 9U, 50U, 1500U}) {
      const uint32_t dims = 12, queries = 5;
      const VectorSource vectors = make_vectors(kind, rows, dims, 3);
      const VectorSource points = make_vectors(Data::kClusters, queries, dims, 4);
      const auto* query = reinterpret_cast<const float*>(points.base);
      const ExactIndex index(vectors, Metric::kL2, *available_kernels().front(), 2,
                             make_graph(vectors, Metric::kL2, 8, 3));
      for (uint32_t keep : {1U, 2U, 10U}) {
        RowFilter filter(rows);
        for (uint32_t row = 0; row < rows; ++row) {
          if (row % keep != 0) filter.drop(row);
        }
        std::vector<uint32_t> gone;
        for (uint32_t row = 0; row < rows; row += 5) gone.push_back(row);
        const Exclusions exclusions(gone, {}, {}, queries, rows);
        for (bool excluding : {false, true}) {
          size_t there = 0;
          for (uint32_t row = 0; row < rows; ++row) there += filter.allows(row) && !(excluding && row % 5 == 0);
          for (uint32_t k : {1U, 10U, 60U}) {
            SearchParams params = walk_params(k, k);
            params.filter = &filter;
            if (excluding) params.exclusions = &exclusions;
            const Hits hits = index.search(query, queries, params);
            for (uint32_t q = 0; q < queries; ++q) {
              CHECK(hits.counts[q] == std::min<size_t>(k, there));
              std::set<uint32_t> seen;
              for (uint32_t i = 0; i < hits.counts[q]; ++i) {
                const uint32_t row = hits.rows[q * k + i];
                CHECK(row < rows && filter.allows(row) && !(excluding && row % 5 == 0) && seen.insert(row).second);
                CHECK(i == 0 || hits.scores[q * k + i] <= hits.scores[q * k + i - 1]);
              }
            }
          }
        }
      }
    }
  }
}

// The best entries, which a filter may not allow, do not take the room of the k rows asked for.
TEST(a_filtered_walk_of_ef_k_answers_without_a_scan) {
  const uint32_t rows = 4000, dims = 24, queries = 100, k = 10;
  const VectorSource vectors = make_vectors(Data::kClusters, rows, dims, 5);
  const VectorSource points = make_vectors(Data::kClusters, queries, dims, 6);
  const auto* query = reinterpret_cast<const float*>(points.base);
  const ExactIndex index(vectors, Metric::kL2, *available_kernels().front(), 1,
                         make_graph(vectors, Metric::kL2, 32, 2));
  RowFilter filter(rows);
  for (uint32_t row = 0; row < rows; ++row) {
    if (row % 4 != 0) filter.drop(row);
  }
  SearchParams params = walk_params(k, k);
  params.filter = &filter;
  const Hits hits = index.search(query, queries, params);
  CHECK(hits.path == SearchPath::kList && hits.fallbacks == 0);
}

// Nothing leads anywhere: the walk ends at once and the scan behind it answers, exactly.
TEST(a_graph_without_edges_is_answered_by_a_scan) {
  const uint32_t rows = 3000, dims = 16, queries = 10, k = 20;
  const VectorSource vectors = make_vectors(Data::kClusters, rows, dims, 8);
  const auto* query = reinterpret_cast<const float*>(vectors.base);
  Graph graph = make_graph(vectors, Metric::kCosine, 8, 4);
  std::fill_n(graph.neighbours.data(), graph.neighbours.size(), kNoNeighbour);
  const ExactIndex index(vectors, Metric::kCosine, *available_kernels().front(), 1, std::move(graph));
  SearchParams exact;
  exact.k = k;
  const Hits truth = index.search(query, queries, exact);
  const Hits hits = index.search(query, queries, walk_params(k, 200));
  CHECK(hits.fallbacks == queries);
  CHECK(hits.rows == truth.rows && hits.scores == truth.scores);
}

TEST(a_walk_needs_a_graph) {
  const VectorSource vectors = make_vectors(Data::kClusters, 50, 4, 9);
  const ExactIndex index(vectors, Metric::kIp, *available_kernels().front(), 1);
  std::string message;
  try {
    (void)index.search(reinterpret_cast<const float*>(vectors.base), 1, walk_params(5, 20));
  } catch (const Error& error) {
    message = error.message();
  }
  CHECK(message == "mode: expected \"codes\", \"exact\" or \"f32\" for an index without a graph, received \"walk\"");
}

}  // namespace
