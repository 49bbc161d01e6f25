// The exact index against a naive loop, on every level, thread count and mode; the f32 answers must be equal bit for
// bit.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "amx_emulated.hpp"
#include "check.hpp"
#include "index/exact_index.hpp"
#include "kernels/cpu.hpp"

namespace {

using namespace belfry;

std::vector<const KernelTable*> all_tables() {
  std::vector<const KernelTable*> tables = available_kernels();
  tables.push_back(&kernels::amx_emulated::table());
  return tables;
}

enum class Data { kNormal, kDuplicates, kHeavyTail, kAllEqual };

VectorSource make_vectors(Data kind, uint32_t rows, uint32_t dims, uint32_t seed) {
  auto values = std::make_shared<std::vector<float>>(size_t{rows} * dims);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, 1);
  for (uint32_t row = 0; row < rows; ++row) {
    const double size = kind == Data::kHeavyTail ? std::exp(4 * normal(random)) : 1;
    for (uint32_t d = 0; d < dims; ++d) {
      float& value = (*values)[size_t{row} * dims + d];
      if (kind == Data::kAllEqual || (kind == Data::kDuplicates && row >= 10)) {
        value = (*values)[size_t{kind == Data::kAllEqual ? 0 : row % 10} * dims + d];
        if (row == 0) value = static_cast<float>(normal(random));
      } else {
        value = static_cast<float>(normal(random) * size);
      }
    }
  }
  return {values, reinterpret_cast<const unsigned char*>(values->data()), size_t{dims} * 4, RowFormat::kF32, rows,
          dims};
}

TEST(modes_levels_and_threads_give_one_answer) {
  for (Data kind : {Data::kNormal, Data::kDuplicates, Data::kHeavyTail, Data::kAllEqual}) {
    for (Metric metric : {Metric::kIp, Metric::kCosine, Metric::kL2}) {
      for (uint32_t rows : {1U, 63U, 64U, 65U, 3000U}) {
        const uint32_t dims = rows == 65 ? 3 : 20, queries = rows == 3000 ? 9 : 2;
        const VectorSource vectors = make_vectors(kind, rows, dims, rows);
        const VectorSource points = make_vectors(Data::kNormal, queries, dims, 99);
        const auto* query = reinterpret_cast<const float*>(points.base);
        std::optional<Hits> judge;
        for (const KernelTable* table : all_tables()) {
          for (size_t threads : {1U, 3U}) {
            const ExactIndex index(vectors, metric, *table, threads);
            for (SearchMode mode : {SearchMode::kF32, SearchMode::kExact}) {
              SearchParams params;
              params.k = 10;
              params.mode = mode;
              const Hits hits = index.search(query, queries, params);
              if (!judge) judge = hits;
              CHECK_MESSAGE(hits.rows == judge->rows && hits.scores == judge->scores && hits.counts == judge->counts,
                            std::string(table->name) + " rows " + std::to_string(rows) + " data " +
                                std::to_string(static_cast<int>(kind)));
            }
          }
        }
        CHECK(judge->counts[0] == std::min(rows, 10U));
      }
    }
  }
}

TEST(row_splits_of_one_query_agree_with_one_thread) {
  // Large enough that a single query is cut into row ranges.
  const VectorSource vectors = make_vectors(Data::kDuplicates, 70'000, 64, 3);
  const VectorSource points = make_vectors(Data::kNormal, 1, 64, 4);
  const auto* query = reinterpret_cast<const float*>(points.base);
  const KernelTable& table = *available_kernels().front();
  const ExactIndex one(vectors, Metric::kIp, table, 1), four(vectors, Metric::kIp, table, 4);
  for (SearchMode mode : {SearchMode::kCodes, SearchMode::kExact, SearchMode::kF32}) {
    SearchParams params;
    params.k = 50;
    params.rescore = 150;
    params.mode = mode;
    const Hits a = one.search(query, 1, params), b = four.search(query, 1, params);
    CHECK(a.rows == b.rows && a.scores == b.scores);
  }
}

TEST(refuses_what_it_must) {
  const auto code_of = [](const auto& body) -> std::string {
    try {
      body();
    } catch (const Error& error) {
      return std::string(error.code()) + " " + error.message();
    }
    return "nothing";
  };
  const KernelTable& table = kernels::portable::table();
  const ExactIndex index(make_vectors(Data::kNormal, 10, 4, 1), Metric::kIp, table, 1);
  std::vector<float> query(4, 1.0F);
  SearchParams params;
  params.k = 0;
  CHECK(code_of([&] { (void)index.search(query.data(), 1, params); }) ==
        "BELFRY_INVALID_ARGUMENT k: expected an integer from 1 to 10000, received 0");
  params.k = 3;
  query[2] = std::nanf("");
  CHECK(code_of([&] { (void)index.search(query.data(), 1, params); }) ==
        "BELFRY_INVALID_QUERY_VECTOR queries: expected finite numbers, received NaN in query 0, dim 2");
  VectorSource bad = make_vectors(Data::kNormal, 10, 4, 1);
  const_cast<unsigned char*>(bad.base)[4 * 4 * 7 + 3] = 0x7f;
  const_cast<unsigned char*>(bad.base)[4 * 4 * 7 + 2] = 0x80;
  CHECK(code_of([&] { const ExactIndex refused(bad, Metric::kIp, table, 1); }) ==
        "BELFRY_BAD_VECTOR vectors: row 7 holds NaN or an infinite value; remove or repair it in the export");
}

}  // namespace
