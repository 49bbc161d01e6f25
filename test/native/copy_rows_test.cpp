#include "core/copy_rows.hpp"

#include <numeric>
#include <random>
#include <vector>

#include "check.hpp"

namespace {

using belfry::RowCopy;

TEST(rows_are_copied_to_where_they_belong) {
  std::mt19937 random(3);
  for (const size_t width : {size_t{1}, size_t{2}, size_t{15}, size_t{33}}) {
    for (const size_t step : {size_t{1}, size_t{2}}) {
      for (const size_t count : {size_t{0}, size_t{1}, size_t{7}, size_t{100}}) {
        std::vector<int32_t> table(width * 50);
        std::iota(table.begin(), table.end(), 1);
        std::vector<int32_t> rows(count);
        for (int32_t& row : rows) row = static_cast<int32_t>(random() % 51) - 1;
        const size_t stride = width * step + 3;
        const size_t at = 2;
        std::vector<int32_t> out(at + count * stride + 1, -7);
        std::vector<int32_t> wanted = out;
        for (size_t i = 0; i < count; ++i) {
          for (size_t word = 0; word < width && rows[i] >= 0; ++word)
            wanted[at + i * stride + word * step] = table[static_cast<size_t>(rows[i]) * width + word];
        }
        CHECK(belfry::copy_rows({table, width, rows, out, stride, at, step}));
        CHECK(out == wanted);
      }
    }
  }
}

TEST(rows_that_are_not_there_or_have_no_room_are_not_copied) {
  const std::vector<int32_t> table{1, 2, 3, 4};
  std::vector<int32_t> out(4, 0);
  const std::vector<int32_t> beyond{0, 2};
  CHECK(!belfry::copy_rows({table, 2, beyond, out, 2, 0, 1}));
  const std::vector<int32_t> both{0, 1};
  CHECK(!belfry::copy_rows({table, 2, both, out, 2, 1, 1}));
  CHECK(!belfry::copy_rows({table, 2, both, out, 2, 0, 2}));
  CHECK(!belfry::copy_rows({table, 0, both, out, 2, 0, 1}));
  CHECK(out == std::vector<int32_t>(4, 0));
  CHECK(belfry::copy_rows({table, 2, both, out, 2, 0, 1}));
  CHECK(out == table);
}

}  // namespace
