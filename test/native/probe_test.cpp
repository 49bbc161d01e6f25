// Scans of some partitions: with all of them the answer of mode codes, bit for bit; with a part of them the recall that
// clustered data must give; and k hits whenever k allowed rows exist.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "check.hpp"
#include "core/exclusions.hpp"
#include "index/exact_index.hpp"
#include "kernel_tables.hpp"
#include "kernels/cpu.hpp"

namespace {

using namespace belfry;

constexpr Metric kMetrics[] = {Metric::kIp, Metric::kCosine, Metric::kL2};

// Row r belongs to cluster r % clusters. Spread 0 makes its rows equal.
VectorSource make_vectors(uint32_t rows, uint32_t dims, uint32_t clusters, float spread, uint32_t seed) {
  auto values = std::make_shared<std::vector<float>>(size_t{rows} * dims);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1);
  for (uint32_t row = 0; row < rows; ++row) {
    std::mt19937 cluster(row % clusters);
    std::normal_distribution<float> centre(0, 1);
    for (uint32_t d = 0; d < dims; ++d) {
      (*values)[size_t{row} * dims + d] = centre(cluster) + (spread == 0 ? 0 : spread * normal(random));
    }
  }
  return {values, reinterpret_cast<const unsigned char*>(values->data()), size_t{dims} * 4, RowFormat::kF32, rows,
          dims};
}

const float* values_of(const VectorSource& vectors) { return reinterpret_cast<const float*>(vectors.base); }

// A partition for each cluster, its rows shuffled, and no edges: nothing but the partitions counts here.
Graph make_partitions(uint32_t rows, uint32_t clusters, uint32_t seed) {
  Graph graph;
  graph.rows = rows;
  graph.degree = kDegreeMin;
  graph.neighbours = AlignedBuffer<uint32_t>(size_t{rows} * kDegreeMin);
  std::fill_n(graph.neighbours.data(), graph.neighbours.size(), kNoNeighbour);
  std::mt19937 random(seed);
  for (uint32_t c = 0; c < std::min(rows, clusters); ++c) {
    const auto first = static_cast<uint32_t>(graph.order.size());
    graph.partition_starts.push_back(first);
    graph.entries.push_back(first);
    for (uint32_t row = c; row < rows; row += clusters) graph.order.push_back(row);
    std::shuffle(graph.order.begin() + first, graph.order.end(), random);
  }
  graph.partition_starts.push_back(rows);
  return graph;
}

SearchParams params_of(SearchMode mode, uint32_t k, uint32_t rescore, uint32_t probes = 1) {
  SearchParams params;
  params.mode = mode;
  params.k = k;
  params.rescore = rescore;
  params.probes = probes;
  return params;
}

bool same(const Hits& a, const Hits& b) { return a.rows == b.rows && a.scores == b.scores && a.counts == b.counts; }

double recall(const Hits& hits, const Hits& truth, size_t queries, uint32_t k) {
  double found = 0;
  for (size_t q = 0; q < queries; ++q) {
    for (uint32_t i = 0; i < hits.counts[q]; ++i) found += hits.scores[q * k + i] >= truth.scores[q * k + k - 1];
  }
  return found / static_cast<double>(queries * k);
}

TEST(probes_of_all_partitions_give_the_answer_of_codes) {
  for (Metric metric : kMetrics) {
    for (uint32_t dims : {3U, 60U, 64U, 100U}) {
      for (float spread : {0.0F, 0.5F}) {
        const uint32_t rows = 2500, clusters = 13, k = 10;
        const VectorSource vectors = make_vectors(rows, dims, clusters, spread, test::seed(dims));
        const VectorSource points = make_vectors(40, dims, 7, 0.5F, test::seed(dims + 1));
        RowFilter half(rows);
        for (uint32_t row = 0; row < rows; row += 2) half.drop(row);
        std::vector<uint32_t> gone(rows / 3), offsets(41), own;
        for (uint32_t i = 0; i < gone.size(); ++i) gone[i] = 3 * i;
        for (uint32_t q = 0; q < 40; ++q) {
          for (uint32_t i = 0; i < 5 * q; ++i) own.push_back((i * 7 + q) % rows);
          offsets[q + 1] = static_cast<uint32_t>(own.size());
        }
        for (const KernelTable* table : test::all_tables()) {
          for (size_t threads : {1U, 3U}) {
            const ExactIndex index(vectors, metric, *table, threads, make_partitions(rows, clusters, 1));
            for (uint32_t count : {1U, 3U, 40U}) {
              const Exclusions exclusions(gone, count == 40 ? offsets : std::vector<uint32_t>(),
                                          count == 40 ? own : std::vector<uint32_t>(), count, rows);
              for (int with = 0; with < 3; ++with) {
                SearchParams codes = params_of(SearchMode::kCodes, k, 25);
                if (with == 1) codes.filter = &half;
                if (with == 2) codes.exclusions = &exclusions;
                SearchParams probe = codes;
                probe.mode = SearchMode::kProbe;
                probe.probes = clusters;
                const Hits hits = index.search(values_of(points), count, probe);
                CHECK_MESSAGE(same(hits, index.search(values_of(points), count, codes)),
                              std::string(table->name) + " dims " + std::to_string(dims) + " queries " +
                                  std::to_string(count) + " with " + std::to_string(with));
                CHECK(hits.path == SearchPath::kProbe && hits.fallbacks == 0);
                CHECK(hits.scored == uint64_t{count} * rows);
              }
            }
          }
        }
      }
    }
  }
}

// Levels without a query window have the same codes, so the same partitions.
TEST(probes_give_one_answer_on_every_level_and_number_of_threads) {
  for (Metric metric : kMetrics) {
    const uint32_t rows = 3000, dims = 50, clusters = 40, queries = 300;
    const VectorSource vectors = make_vectors(rows, dims, clusters, 1, test::seed(1));
    const VectorSource points = make_vectors(queries, dims, clusters, 1, test::seed(2));
    std::optional<Hits> judge;
    for (const KernelTable* table : test::all_tables()) {
      std::optional<Hits> own;
      for (size_t threads : {1U, 4U}) {
        const ExactIndex index(vectors, metric, *table, threads, make_partitions(rows, clusters, 3));
        const Hits hits = index.search(values_of(points), queries, params_of(SearchMode::kProbe, 10, 20, 3));
        if (!own) own = hits;
        if (!judge && table->query_window == 0) judge = hits;
        CHECK_MESSAGE(same(hits, *own) && hits.scored == own->scored, table->name);
        CHECK_MESSAGE(table->query_window != 0 || same(hits, *judge), table->name);
        // Alone, a query gets what it gets in company.
        const Hits one = index.search(values_of(points) + 7 * dims, 1, params_of(SearchMode::kProbe, 10, 20, 3));
        CHECK(std::equal(one.rows.begin(), one.rows.end(), hits.rows.begin() + 70));
      }
    }
  }
}

TEST(a_fraction_of_the_partitions_holds_nearly_all_hits) {
  for (Metric metric : kMetrics) {
    const uint32_t rows = 20000, dims = 24, clusters = 100, queries = 200, k = 10;
    const VectorSource vectors = make_vectors(rows, dims, clusters, 0.7F, 5);
    const VectorSource points = make_vectors(queries, dims, clusters, 0.7F, 6);
    const ExactIndex index(vectors, metric, *available_kernels().front(), 1, make_partitions(rows, clusters, 4));
    const Hits truth = index.search(values_of(points), queries, params_of(SearchMode::kExact, k, k));
    const Hits few = index.search(values_of(points), queries, params_of(SearchMode::kProbe, k, 3 * k, 2));
    const Hits more = index.search(values_of(points), queries, params_of(SearchMode::kProbe, k, 3 * k, 10));
    CHECK_MESSAGE(recall(few, truth, queries, k) > 0.7, std::to_string(recall(few, truth, queries, k)));
    CHECK_MESSAGE(recall(more, truth, queries, k) > 0.97, std::to_string(recall(more, truth, queries, k)));
    CHECK(few.scored == uint64_t{queries} * 2 * rows / clusters && more.fallbacks == 0);
  }
}

TEST(probes_find_k_hits_whenever_k_allowed_rows_exist) {
  for (float spread : {0.0F, 0.7F}) {
    for (uint32_t rows : {1U, 2U, 63U, 64U, 65U, 1500U}) {
      for (uint32_t clusters : {1U, 9U, 200U}) {
        const uint32_t dims = 12, queries = 5;
        const VectorSource vectors = make_vectors(rows, dims, clusters, spread, 3);
        const VectorSource points = make_vectors(queries, dims, clusters, 0.7F, 4);
        const ExactIndex index(vectors, Metric::kL2, *available_kernels().front(), 2,
                               make_partitions(rows, clusters, 3));
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
              SearchParams params = params_of(SearchMode::kProbe, k, k);
              params.filter = &filter;
              if (excluding) params.exclusions = &exclusions;
              const Hits hits = index.search(values_of(points), queries, params);
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
}

// Queries that come back short are scanned together, each with its own exclusions.
TEST(probes_that_find_too_few_are_answered_by_a_scan) {
  const uint32_t rows = 4000, dims = 16, clusters = 400, queries = 6, k = 20;  // 10 rows a partition
  const VectorSource vectors = make_vectors(rows, dims, clusters, 0.3F, 8);
  const ExactIndex index(vectors, Metric::kCosine, *available_kernels().front(), 1, make_partitions(rows, clusters, 4));
  const Exclusions exclusions({}, {0, 1, 2, 3, 4, 5, 6}, {0, 1, 2, 3, 4, 5}, queries, rows);
  SearchParams codes = params_of(SearchMode::kCodes, k, 30);
  codes.exclusions = &exclusions;
  SearchParams probe = codes;
  probe.mode = SearchMode::kProbe;
  const Hits hits = index.search(values_of(vectors), queries, probe);
  CHECK(hits.fallbacks == queries && same(hits, index.search(values_of(vectors), queries, codes)));
  probe.fall_back = false;
  CHECK(index.search(values_of(vectors), queries, probe).counts == std::vector<uint32_t>(queries));
}

// Partitions without allowed rows are not among the probes.
TEST(probes_skip_partitions_that_a_filter_empties) {
  const uint32_t rows = 6000, dims = 8, clusters = 30, k = 5;
  const VectorSource vectors = make_vectors(rows, dims, clusters, 0.2F, 9);
  const ExactIndex index(vectors, Metric::kL2, *available_kernels().front(), 1, make_partitions(rows, clusters, 5));
  RowFilter filter(rows);
  for (uint32_t row = 0; row < rows; ++row) {
    if (row % clusters < 20) filter.drop(row);
  }
  SearchParams probe = params_of(SearchMode::kProbe, k, 20, 10);  // as many as are left
  probe.filter = &filter;
  SearchParams codes = probe;
  codes.mode = SearchMode::kCodes;
  CHECK(same(index.search(values_of(vectors), 20, probe), index.search(values_of(vectors), 20, codes)));
}

std::string message_of(const ExactIndex& index, const float* query, const SearchParams& params) {
  try {
    (void)index.search(query, 1, params);
  } catch (const Error& error) {
    return error.message();
  }
  return "";
}

TEST(probes_are_checked) {
  const VectorSource vectors = make_vectors(50, 4, 5, 1, 9);
  const ExactIndex plain(vectors, Metric::kIp, *available_kernels().front(), 1);
  CHECK(message_of(plain, values_of(vectors), params_of(SearchMode::kProbe, 5, 20)) ==
        "mode: expected \"codes\", \"exact\" or \"f32\" for an index without a graph, received \"probe\"");
  const ExactIndex index(vectors, Metric::kIp, *available_kernels().front(), 1, make_partitions(50, 5, 1));
  for (uint32_t probes : {0U, 6U}) {
    CHECK(message_of(index, values_of(vectors), params_of(SearchMode::kProbe, 5, 20, probes)) ==
          "probes: expected an integer from 1 to 5, received " + std::to_string(probes));
  }
  CHECK(message_of(index, values_of(vectors), params_of(SearchMode::kProbe, 5, 4)) ==
        "rescore: expected an integer of at least k (5), received 4");
}

}  // namespace
