// Columns and filter programs against plain loops. The meaning of whole filters is tested in TypeScript; here the parts
// run under the sanitizers, over one block and several, on one thread and more.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "check.hpp"
#include "core/error.hpp"
#include "filter/filter_program.hpp"

namespace {

using namespace belfry;
using Time = std::chrono::steady_clock::time_point;

struct Table {
  explicit Table(uint32_t count) : rows(count) {
    std::mt19937 random(count);
    number.kind = ColumnKind::kNumber;
    flag.kind = ColumnKind::kBoolean;
    word.kind = ColumnKind::kString;
    words.kind = ColumnKind::kStringList;
    numbers.kind = ColumnKind::kNumberList;
    words.offsets = numbers.offsets = {0};
    // Word 0 is in half of the rows and has a bitmap; the later ones are rare and have lists.
    const auto any_word = [&] { return random() % 2 == 0 ? 0 : static_cast<int32_t>(random() % 200); };
    for (uint32_t row = 0; row < rows; ++row) {
      number.numbers.push_back(random() % 10 == 0 ? std::nan("") : static_cast<double>(random() % 50) - 25);
      flag.flags.push_back(static_cast<uint8_t>(random() % 3));
      word.codes.push_back(random() % 10 == 0 ? -1 : any_word());
      for (uint32_t i = random() % 4; i > 0; --i) {
        words.codes.push_back(any_word());
        numbers.numbers.push_back(static_cast<double>(random() % 50));
      }
      words.offsets.push_back(static_cast<uint32_t>(words.codes.size()));
      numbers.offsets.push_back(static_cast<uint32_t>(numbers.numbers.size()));
    }
    for (ColumnData* data : {&number, &flag, &word, &words, &numbers}) {
      data->rows = rows;
      data->words = 200;
      columns.push_back(std::make_shared<const Column>(*data));
    }
  }

  bool has(const ColumnData& list, uint32_t row, double value) const {
    for (uint32_t at = list.offsets[row]; at < list.offsets[row + 1]; ++at) {
      if ((list.kind == ColumnKind::kStringList ? list.codes[at] : list.numbers[at]) == value) return true;
    }
    return false;
  }

  uint32_t rows;
  ColumnData number, flag, word, words, numbers;
  std::vector<std::shared_ptr<const Column>> columns;
};

TEST(filter_steps_admit_what_plain_loops_do) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (uint32_t rows : {1U, 64U, 65U, 3000U, 150'000U}) {
    const Table table(rows);
    const uint32_t last = rows - 1;
    struct Case {
      FilterProgram program;
      std::function<bool(uint32_t)> admits;
    };
    const Case cases[] = {
        {{{{FilterOp::kAll, 0, 0, 0}}, {}, {}}, [](uint32_t) { return true; }},
        {{{{FilterOp::kRows, 0, 0, 3}}, {last, 0, last}, {}}, [&](uint32_t row) { return row == 0 || row == last; }},
        {{{{FilterOp::kPresent, 0, 0, 0}}, {}, {}},
         [&](uint32_t row) { return !std::isnan(table.number.numbers[row]); }},
        {{{{FilterOp::kIsFalse, 1, 0, 0}}, {}, {}}, [&](uint32_t row) { return table.flag.flags[row] == 0; }},
        {{{{FilterOp::kAnyWord, 2, 0, 3}}, {0, 5, 7}, {}},
         [&](uint32_t row) {
           const int32_t code = table.word.codes[row];
           return code == 0 || code == 5 || code == 7;
         }},
        {{{{FilterOp::kEveryWord, 3, 0, 2}}, {9, 0}, {}},
         [&](uint32_t row) { return table.has(table.words, row, 0) && table.has(table.words, row, 9); }},
        {{{{FilterOp::kInRange, 0, 0, kOpenAbove}}, {}, {-3, 10}},
         [&](uint32_t row) { return table.number.numbers[row] >= -3 && table.number.numbers[row] < 10; }},
        {{{{FilterOp::kInRange, 4, 0, kOpenBelow}}, {}, {40, kInfinity}},
         [&](uint32_t row) {
           bool found = false;
           for (int value = 41; value < 50; ++value) found = found || table.has(table.numbers, row, value);
           return found;
         }},
        {{{{FilterOp::kAnyNumber, 0, 0, 3}}, {}, {4, -4, 4}},
         [&](uint32_t row) { return std::fabs(table.number.numbers[row]) == 4; }},
        {{{{FilterOp::kEveryNumber, 4, 0, 2}}, {}, {30, 3}},
         [&](uint32_t row) { return table.has(table.numbers, row, 3) && table.has(table.numbers, row, 30); }},
        {{{{FilterOp::kIsTrue, 1, 0, 0},
           {FilterOp::kAnyWord, 2, 0, 1},
           {FilterOp::kOr, 0, 0, 0},
           {FilterOp::kPresent, 0, 0, 0},
           {FilterOp::kAnd, 0, 0, 0},
           {FilterOp::kRows, 0, 1, 1},
           {FilterOp::kAndNot, 0, 0, 0}},
          {0, last},
          {}},
         [&](uint32_t row) {
           return (table.flag.flags[row] == 1 || table.word.codes[row] == 0) &&
                  !std::isnan(table.number.numbers[row]) && row != last;
         }},
    };
    for (size_t i = 0; i < std::size(cases); ++i) {
      for (size_t threads : {1U, 3U}) {
        const auto filter = evaluate_filter(cases[i].program, table.columns, rows, threads, Time::max());
        size_t wrong = 0, count = 0;
        for (uint32_t row = 0; row < rows; ++row) {
          const bool admits = cases[i].admits(row);
          count += admits;
          wrong += filter->allows(row) != admits;
        }
        CHECK_MESSAGE(wrong == 0 && filter->count() == count,
                      "case " + std::to_string(i) + ", rows " + std::to_string(rows));
      }
    }
  }
}

TEST(filter_of_no_rows) {
  const Table table(0);
  CHECK(evaluate_filter({{{FilterOp::kPresent, 3, 0, 0}}, {}, {}}, table.columns, 0, 2, Time::max())->count() == 0);
}

TEST(filter_stops_at_its_deadline) {
  const Table table(1000);
  try {
    (void)evaluate_filter({{{FilterOp::kAll, 0, 0, 0}}, {}, {}}, table.columns, 1000, 1,
                          std::chrono::steady_clock::now() - std::chrono::milliseconds(1));
    CHECK(false);
  } catch (const Error& error) {
    CHECK(std::string(error.code()) + " " + error.message() ==
          "BELFRY_DEADLINE_EXCEEDED filter: the deadline passed while it was evaluated");
  }
}

}  // namespace
