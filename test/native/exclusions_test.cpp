// Excluded rows: the lists themselves, and searches that must answer as if those rows were not there.
#include <memory>
#include <set>
#include <vector>

#include "check.hpp"
#include "core/exclusions.hpp"
#include "index/exact_index.hpp"
#include "kernel_tables.hpp"
#include "kernels/cpu.hpp"

namespace {

using namespace belfry;

TEST(exclusions_sort_their_lists_and_know_their_rows) {
  const Exclusions exclusions({7, 2, 7}, {0, 3, 3, 4}, {5, 1, 5, 9}, 3, 10);
  const auto rows_of = [&](size_t q) {
    std::set<uint32_t> rows;
    for (uint32_t row = 0; row < 10; ++row) {
      if (exclusions.of(q).contains(row)) rows.insert(row);
    }
    return rows;
  };
  CHECK(rows_of(0) == (std::set<uint32_t>{1, 2, 5, 7}));
  CHECK(rows_of(1) == (std::set<uint32_t>{2, 7}));
  CHECK(rows_of(2) == (std::set<uint32_t>{2, 7, 9}));
  CHECK(exclusions.of(0).count() == 4);
  CHECK(Exclusions({}, {}, {}, 5, 10).empty() && Exclusions({}, {0, 0}, {}, 1, 10).empty());
}

TEST(exclusions_refuse_lists_that_do_not_fit) {
  const auto message_of = [](std::vector<uint32_t> common, std::vector<uint32_t> offsets, std::vector<uint32_t> rows) {
    try {
      const Exclusions made(std::move(common), offsets, std::move(rows), 2, 10);
    } catch (const Error& error) {
      return error.message();
    }
    return std::string("nothing");
  };
  CHECK(message_of({10}, {}, {}) == "exclude: expected row numbers below 10, received 10");
  CHECK(message_of({}, {0, 1, 1}, {11}) == "excludeEach.rows: expected row numbers below 10, received 11");
  CHECK(message_of({}, {0, 1}, {1}) == "excludeEach.offsets: expected 3 numbers (one more than queries), received 2");
  CHECK(message_of({}, {}, {1}) == "excludeEach.offsets: expected 3 numbers (one more than queries), received 0");
  CHECK(message_of({}, {0, 2, 1}, {1, 2}) ==
        "excludeEach.offsets: expected numbers that never fall, received 1 after 2");
  CHECK(message_of({}, {0, 1, 1}, {1, 2}) ==
        "excludeEach.offsets: expected 0 first and 2 (the length of rows) last, received 0 and 1");
  CHECK(message_of({}, {1, 1, 2}, {1, 2}) ==
        "excludeEach.offsets: expected 0 first and 2 (the length of rows) last, received 1 and 2");
}

// Each query alone with a filter that lacks its rows must get the very hits of the batch with lists.
TEST(excluded_rows_change_nothing_else) {
  const uint32_t dims = 16, queries = test::kThreadsWatched ? 8 : 40;
  for (uint32_t rows : {1U, 70U, 5000U, 40'000U}) {
    std::mt19937 random(rows);
    std::normal_distribution<float> normal(0, 1);
    auto values = std::make_shared<std::vector<float>>(size_t{rows} * dims);
    for (float& value : *values) value = normal(random);
    std::vector<float> points(size_t{queries} * dims);
    for (float& value : points) value = normal(random);
    const VectorSource source{
        values, reinterpret_cast<const unsigned char*>(values->data()), dims * size_t{4}, RowFormat::kF32, rows, dims};
    for (const KernelTable* table : test::own_tables()) {
      const ExactIndex index(source, Metric::kIp, *table, 2);
      for (SearchMode mode : {SearchMode::kCodes, SearchMode::kExact, SearchMode::kF32}) {
        SearchParams params;
        params.k = 10;
        params.mode = mode;
        // The best of each query, which a scan meets in its first lists: 60 of them, and a few at random.
        SearchParams deep = params;
        deep.k = 60;
        deep.rescore = 180;
        const Hits best = index.search(points.data(), queries, deep);
        std::vector<uint32_t> offsets{0}, lists;
        for (uint32_t q = 0; q < queries; ++q) {
          for (uint32_t i = 0; i < best.counts[q] && q % 3 != 0; ++i) lists.push_back(best.rows[q * 60 + i]);
          for (uint32_t i = 0; i < q; ++i) lists.push_back(static_cast<uint32_t>(random() % rows));
          offsets.push_back(static_cast<uint32_t>(lists.size()));
        }
        const std::vector<uint32_t> common{static_cast<uint32_t>(random() % rows)};
        const Exclusions exclusions(common, offsets, lists, queries, rows);
        for (const bool filtered : {false, true}) {
          RowFilter filter(rows);
          for (uint32_t row = 0; filtered && row < rows; row += 3) filter.drop(row);
          params.exclusions = &exclusions;
          params.filter = filtered ? &filter : nullptr;
          const Hits hits = index.search(points.data(), queries, params);
          for (uint32_t q = 0; q < queries; ++q) {
            RowFilter own = filter;
            own.drop(common[0]);
            for (uint32_t i = offsets[q]; i < offsets[q + 1]; ++i) own.drop(lists[i]);
            SearchParams alone = params;
            alone.exclusions = nullptr;
            alone.filter = &own;
            const Hits judge = index.search(points.data() + size_t{q} * dims, 1, alone);
            CHECK(hits.counts[q] == judge.counts[0] && hits.counts[q] == std::min<size_t>(10, own.count()));
            bool equal = true;
            for (uint32_t i = 0; i < judge.counts[0]; ++i) {
              equal = equal && hits.rows[q * 10 + i] == judge.rows[i] && hits.scores[q * 10 + i] == judge.scores[i];
            }
            CHECK_MESSAGE(equal || mode == SearchMode::kCodes, std::string(table->name) + " " + std::to_string(rows));
            // The few rows that the filter of one query leaves are scored from their vectors: no judge of the codes.
            CHECK_MESSAGE(equal || own.count() * 16 <= rows, std::string(table->name) + " codes");
          }
        }
      }
    }
  }
}

}  // namespace
