// The exact index against a naive loop, on every level, thread count and mode; the f32 answers must be equal bit for
// bit.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "check.hpp"
#include "index/exact_index.hpp"
#include "kernel_tables.hpp"
#include "kernels/cpu.hpp"

namespace {

using namespace belfry;

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
        for (const KernelTable* table : test::all_tables()) {
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

TEST(a_permuted_index_gives_the_same_bits) {
  std::mt19937 random(11);
  for (Data kind : {Data::kNormal, Data::kDuplicates, Data::kHeavyTail, Data::kAllEqual}) {
    for (Metric metric : {Metric::kIp, Metric::kCosine, Metric::kL2}) {
      for (uint32_t rows : {1U, 65U, 3000U}) {
        const uint32_t dims = rows == 65 ? 61 : 20, queries = 7;
        const VectorSource vectors = make_vectors(kind, rows, dims, rows);
        const VectorSource points = make_vectors(Data::kNormal, queries, dims, 98);
        const auto* query = reinterpret_cast<const float*>(points.base);
        std::vector<uint32_t> order(rows);
        std::iota(order.begin(), order.end(), 0U);
        std::shuffle(order.begin(), order.end(), random);
        RowFilter filter(rows);
        for (uint32_t row = 1; row < rows; row += 3) filter.drop(row);
        std::vector<uint32_t> offsets(queries + 1), excluded;
        for (uint32_t q = 0; q < queries; ++q) {
          for (uint32_t row = q; row < rows; row += 5) excluded.push_back(row);
          offsets[q + 1] = static_cast<uint32_t>(excluded.size());
        }
        const Exclusions exclusions({rows / 2}, offsets, excluded, queries, rows);
        for (const KernelTable* table : test::all_tables()) {
          const ExactIndex plain(vectors, metric, *table, 1), permuted(vectors, metric, *table, 3, order);
          for (SearchMode mode : {SearchMode::kCodes, SearchMode::kExact, SearchMode::kF32}) {
            for (uint32_t variant = 0; variant < 4; ++variant) {
              SearchParams params;
              params.k = 10;
              params.rescore = 20;
              params.mode = mode;
              if ((variant & 1) != 0) params.filter = &filter;
              if ((variant & 2) != 0) params.exclusions = &exclusions;
              const Hits a = plain.search(query, queries, params), b = permuted.search(query, queries, params);
              CHECK_MESSAGE(a.rows == b.rows && a.scores == b.scores && a.counts == b.counts,
                            std::string(table->name) + " rows " + std::to_string(rows) + " data " +
                                std::to_string(static_cast<int>(kind)) + " mode " +
                                std::to_string(static_cast<int>(mode)));
            }
          }
        }
      }
    }
  }
}

TEST(codes_carry_what_a_walk_needs) {
  std::vector<uint32_t> order(200);
  std::iota(order.rbegin(), order.rend(), 0U);
  for (Metric metric : {Metric::kIp, Metric::kL2}) {
    for (uint32_t dims : {1U, 56U, 57U, 60U, 61U, 64U, 100U}) {
      const VectorSource vectors = make_vectors(Data::kNormal, 200, dims, dims);
      const ItemCodes codes(vectors, metric, kernels::portable::table(), 1, order.data());
      const CodeView view = codes.view();
      const size_t room = view.rows.stride - dims;
      CHECK(view.rows.stride % 64 == 0 && view.rows.stride >= dims && room < 64);
      CHECK((view.rows.scale_stride == view.rows.stride) == (room >= 4));
      CHECK((view.rows.bias_stride == view.rows.stride) == (room >= 8 && metric == Metric::kL2));
      for (uint32_t row = 0; row < 200; ++row) {
        float scale = 0, bias = 0;
        std::memcpy(&scale, view.rows.scale + row * view.rows.scale_stride, 4);
        CHECK(scale == view.scale[row]);
        if (metric == Metric::kL2) {
          std::memcpy(&bias, view.rows.bias + row * view.rows.bias_stride, 4);
          CHECK(bias == view.bias[row] && bias < 0);
        }
        const auto* x = reinterpret_cast<const float*>(vectors.row(199 - row));
        for (uint32_t d = 0; d < dims; ++d) {
          const double back = (view.rows.codes[row * view.rows.stride + d] - 128) * double{scale};
          CHECK(std::fabs(back * std::ldexp(1.0, codes.exponent()) - x[d]) <=
                0.51 * scale * std::ldexp(1.0, codes.exponent()));
        }
      }
    }
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
  const std::vector<uint32_t> order = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
  CHECK(code_of([&] { const ExactIndex refused(bad, Metric::kIp, table, 1, order); }) ==
        "BELFRY_BAD_VECTOR vectors: row 7 holds NaN or an infinite value; remove or repair it in the export");
  const VectorSource good = make_vectors(Data::kNormal, 3, 4, 1);
  CHECK(code_of([&] {
          const ExactIndex refused(good, Metric::kIp, table, 1, {0, 1});
        }) == "BELFRY_INVALID_ARGUMENT order: expected 3 rows, as the vectors have, received 2");
  CHECK(code_of([&] {
          const ExactIndex refused(good, Metric::kIp, table, 1, {0, 2, 2});
        }) == "BELFRY_INVALID_ARGUMENT order: expected every row below 3 once, received 2 at position 2");
}

}  // namespace
