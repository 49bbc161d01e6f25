#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "check.hpp"
#include "core/row_filter.hpp"
#include "core/top_hits.hpp"
#include "index/candidate_lists.hpp"
#include "index/item_codes.hpp"
#include "index/query_codes.hpp"

namespace {

using namespace belfry;

TEST(top_hits_equals_a_full_sort_with_ties_by_row) {
  std::mt19937 random(belfry::test::seed(1));
  for (size_t k : {1U, 2U, 10U, 100U, 1000U}) {
    for (uint32_t n : {0U, 1U, 9U, 500U, 5000U}) {
      std::vector<Hit> all;
      TopHits top(k);
      for (uint32_t row = 0; row < n; ++row) {
        all.push_back({static_cast<double>(random() % 50), row});
        top.offer(all.back().score, row);
      }
      // Written out, so that a mistake in BetterHit shows.
      std::sort(all.begin(), all.end(),
                [](const Hit& a, const Hit& b) { return a.score > b.score || (a.score == b.score && a.row < b.row); });
      all.resize(std::min<size_t>(k, n));
      const std::vector<Hit>& best = top.finish();
      CHECK(best.size() == all.size());
      for (size_t i = 0; i < std::min(best.size(), all.size()); ++i) {
        CHECK(best[i].row == all[i].row && best[i].score == all[i].score);
      }
    }
  }
}

TEST(packed_candidates_sort_by_key_then_row) {
  const float keys[] = {-std::numeric_limits<float>::infinity(), -1e30F, -1.0F, -1e-40F, 0.0F, 1e-40F, 2.0F, 1e30F};
  for (size_t i = 0; i + 1 < std::size(keys); ++i) {
    CHECK(pack_candidate(keys[i], 0) < pack_candidate(keys[i + 1], 4'000'000'000U));
    CHECK(pack_candidate(keys[i], 7) > pack_candidate(keys[i], 8));
    CHECK(packed_key(pack_candidate(keys[i], 9)) == keys[i]);
    CHECK(packed_row(pack_candidate(keys[i], 9)) == 9);
  }
}

TEST(row_filter_allows_drops_and_counts) {
  for (size_t rows : {1U, 7U, 8U, 63U, 64U, 65U, 200U}) {
    CHECK(RowFilter(rows).count() == rows);
    std::vector<uint8_t> bytes((rows + 7) / 8, 0xff);  // bits past the last row are set, and must not count
    RowFilter filter = RowFilter::from_bytes(rows, bytes.data());
    CHECK(filter.count() == rows && filter.rows() == rows);
    filter.drop(static_cast<uint32_t>(rows - 1));
    filter.drop(static_cast<uint32_t>(rows - 1));
    CHECK(filter.count() == rows - 1 && !filter.allows(static_cast<uint32_t>(rows - 1)));
    CHECK(filter.to_rows().size() == rows - 1);
  }
}

TEST(bounds_hold_for_every_row_and_query) {
  // |key of the codes - true key| must never pass the error that the exact mode allows.
  std::mt19937 random(belfry::test::seed(3));
  std::normal_distribution<double> normal(0, 1);
  for (Metric metric : {Metric::kIp, Metric::kCosine, Metric::kL2}) {
    for (uint32_t dims : {1U, 3U, 33U, 200U}) {
      for (double spread : {0.0, 4.0, 12.0}) {  // decades between the norms
        const uint32_t rows = 128, queries = 8;
        std::vector<float> items(rows * dims), points(queries * dims);
        const auto fill = [&](std::vector<float>& values, uint32_t count) {
          for (uint32_t r = 0; r < count; ++r) {
            const double size = std::pow(10, spread * (static_cast<double>(random() % 1000) / 1000 - 0.5));
            for (uint32_t d = 0; d < dims; ++d) values[r * dims + d] = static_cast<float>(normal(random) * size);
          }
        };
        fill(items, rows);
        fill(points, queries);
        const KernelTable& kernel = kernels::portable::table();
        const VectorSource source{
            nullptr, reinterpret_cast<const unsigned char*>(items.data()), dims * size_t{4}, RowFormat::kF32, rows,
            dims};
        const ItemCodes coded(source, metric, kernel, 1);
        const uint32_t window = spread == 4.0 ? 16 : 0;
        const QueryCodes query(points.data(), queries, dims, metric, coded.exponent(), window);
        const CodeView view = coded.view();
        ScanJob job{};
        job.items = view;
        job.row_end = rows;
        query.fill(job, 0, queries);
        std::vector<int32_t> sums(rows * queries);
        kernel.dots(job, sums.data());
        const double shrink = std::ldexp(1.0, -coded.exponent());
        for (uint32_t q = 0; q < queries; ++q) {
          for (uint32_t r = 0; r < rows; ++r) {
            double dot = 0, distance = 0, item = 0, point = 0;
            for (uint32_t d = 0; d < dims; ++d) {
              const double a = points[q * dims + d], b = items[r * dims + d];
              dot += a * b;
              distance += (a - b) * (a - b);
              item += b * b;
              point += a * a;
            }
            const double score = metric == Metric::kIp   ? dot
                                 : metric == Metric::kL2 ? -distance
                                                         : dot / std::sqrt(item * point);
            double key = static_cast<double>(static_cast<float>(sums[q * rows + r]) * view.scale[r]);
            if (metric == Metric::kL2)
              key = key * job.l2_scale[q] + static_cast<double>(view.bias[r]) * job.l2_weight[q];
            const double error = query.error_weight(q) * view.error[r] + query.norm_weight(q) * view.norm[r];
            CHECK_MESSAGE(query.key_below(q, score) <= key + error,
                          "dims " + std::to_string(dims) + " spread " + std::to_string(spread));
            CHECK(query.key_below(q, score) >= key - error - 1e-9 * std::fabs(key) - 1e-11 * point * shrink * shrink);
          }
        }
      }
    }
  }
}

TEST(query_codes_keep_to_their_window) {
  std::mt19937 random(6);
  std::normal_distribution<float> normal(0, 1);
  for (uint32_t dims : {1U, 4U, 63U, 100U, 300U}) {
    for (uint32_t window : {2U, 16U}) {
      std::vector<float> queries(5 * dims);
      for (uint32_t d = 0; d < dims; ++d) {
        queries[d] = normal(random);
        queries[dims + d] = std::fabs(normal(random)) * 1e-20F;  // one sign
        queries[2 * dims + d] = 3;                               // no small codes among large ones
        queries[3 * dims + d] = d == dims / 2 ? -1e30F : 0;      // one code of 127
      }                                                          // and the zero query
      const QueryCodes codes(queries.data(), 5, dims, Metric::kIp, 0, window);
      ScanJob job{};
      codes.fill(job, 0, 5);
      for (uint32_t q = 0; q < 5; ++q) {
        int32_t largest = 0, sums[2][2] = {};
        for (uint32_t d = 0; d < dims; ++d) {
          if (d % (4 * window) == 0) sums[0][0] = sums[0][1] = sums[1][0] = sums[1][1] = 0;
          const int code = job.query_codes[q * code_stride(dims) + d];
          int32_t& sum = sums[d / 2 % 2][code < 0 ? 1 : 0];
          sum += std::abs(code);
          largest = std::max(largest, sum);
        }
        CHECK(largest <= kWindowSumMax);
        // Not coarser than it must be, where rounding leaves a choice.
        if (q < 2 && dims >= 63) CHECK(largest >= kWindowSumMax * 9 / 10);
        if (q == 3) CHECK(largest == 127);
      }
    }
  }
}

TEST(list_sizes_of_the_bound_discipline_count_what_they_may_grow_to) {
  // A task takes as many queries as fit 64 MiB of these: 50 at k = 10,000 and not 200.
  CHECK(CandidateLists::bytes_per_query(10'000, true) >= 80'000 * 16);
  CHECK(CandidateLists::bytes_per_query(10, true) >= 8'192 * 16);
  CHECK(CandidateLists::bytes_per_query(30, false) < 8'192);
}

}  // namespace
