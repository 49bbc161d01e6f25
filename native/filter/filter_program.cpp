#include "filter/filter_program.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include "core/error.hpp"
#include "core/thread_pool.hpp"

namespace belfry {

namespace {

using Columns = std::vector<std::shared_ptr<const Column>>;

// Bitmaps on the stack at once: groups nest 16 deep, and each holds three at the most.
constexpr size_t kStackMax = 64;

bool joins(FilterOp op) { return op == FilterOp::kAnd || op == FilterOp::kOr || op == FilterOp::kAndNot; }

Error malformed(size_t step, const std::string& expected, uint64_t received) {
  return invalid_argument("program.steps." + std::to_string(step), expected, std::to_string(received));
}

// Checks everything that evaluation relies on, puts lists in order, makes ranges closed and sets of numbers ready,
// which `first` of their steps then counts. Returns the stack that it needs.
size_t prepare(FilterProgram& program, const Columns& columns, uint32_t rows) {
  for (const auto& column : columns) {
    if (column->rows() != rows) {
      throw invalid_argument("columns", "columns of " + std::to_string(rows) + " rows", std::to_string(column->rows()));
    }
  }
  for (double number : program.numbers) {
    if (std::isnan(number)) throw invalid_argument("program.numbers", "numbers", "NaN");
  }
  size_t height = 0, most = 0;
  for (size_t at = 0; at < program.steps.size(); ++at) {
    FilterStep& step = program.steps[at];
    const auto op = static_cast<uint32_t>(step.op);
    if (op >= kFilterOps) throw malformed(at, "an operation below " + std::to_string(kFilterOps), op);
    if (joins(step.op)) {
      if (height < 2) throw malformed(at, "two bitmaps on the stack", height);
      --height;
      continue;
    }
    most = std::max(most, ++height);
    if (most > kStackMax) throw malformed(at, "at most " + std::to_string(kStackMax) + " bitmaps on the stack", most);
    if (step.op == FilterOp::kAll) continue;

    const bool ranged = step.op == FilterOp::kInRange;
    const bool takes_numbers = ranged || step.op == FilterOp::kAnyNumber || step.op == FilterOp::kEveryNumber;
    const bool takes_words = step.op == FilterOp::kAnyWord || step.op == FilterOp::kEveryWord;
    const size_t held = takes_numbers ? program.numbers.size() : program.codes.size();
    const uint64_t end = uint64_t{step.first} + (ranged ? 2 : step.count);
    if ((takes_numbers || takes_words || step.op == FilterOp::kRows) && end > held) {
      throw malformed(at, "values that end at " + std::to_string(held) + " at most", end);
    }
    if (step.op != FilterOp::kRows) {
      if (step.column >= columns.size()) {
        throw malformed(at, "a column below " + std::to_string(columns.size()), step.column);
      }
      const Column& column = *columns[step.column];
      const ColumnKind kind = column.kind();
      const bool fits = takes_words     ? column.holds_strings() && (step.op == FilterOp::kAnyWord || step.count > 0)
                        : takes_numbers ? column.holds_numbers() &&
                                              (step.op != FilterOp::kEveryNumber || kind == ColumnKind::kNumberList)
                                        : step.op == FilterOp::kPresent || kind == ColumnKind::kBoolean;
      if (!fits) throw malformed(at, "a column of the kind that the operation is for", step.column);
    }
    if (takes_words || step.op == FilterOp::kRows) {
      const uint32_t limit = takes_words ? columns[step.column]->words() : rows;
      const auto first = program.codes.begin() + step.first, last = first + step.count;
      for (auto code = first; code != last; ++code) {
        if (*code >= limit) throw malformed(at, "values below " + std::to_string(limit), *code);
      }
      std::sort(first, last);
    } else if (ranged) {
      constexpr double kInfinity = std::numeric_limits<double>::infinity();
      double& low = program.numbers[step.first];
      double& high = program.numbers[step.first + 1];
      if ((step.count & kOpenBelow) != 0) low = std::nextafter(low, kInfinity);
      if ((step.count & kOpenAbove) != 0) high = std::nextafter(high, -kInfinity);
    } else if (takes_numbers) {
      program.sets.emplace_back(std::span(program.numbers).subspan(step.first, step.count));
      step.first = static_cast<uint32_t>(program.sets.size() - 1);
    }
  }
  if (height != 1) throw malformed(program.steps.size(), "one bitmap at the end", height);
  return most;
}

// Sets the bits of the block's rows in a sorted list.
void add_rows(std::span<const uint32_t> rows, const Block& block, uint64_t* out) {
  std::fill_n(out, block.words, 0);
  const uint32_t begin = block.first_row();
  const uint64_t end = block.end_row();
  for (auto row = std::lower_bound(rows.begin(), rows.end(), begin); row != rows.end() && *row < end; ++row) {
    out[(*row - begin) / 64] |= uint64_t{1} << (*row % 64);
  }
}

void push(const FilterProgram& program, const FilterStep& step, const Columns& columns, const Block& block,
          uint64_t* out) {
  const auto words = [&] { return std::span(program.codes).subspan(step.first, step.count); };
  switch (step.op) {
    case FilterOp::kAll: std::fill_n(out, block.words, ~uint64_t{0}); return;
    case FilterOp::kRows: return add_rows(words(), block, out);
    case FilterOp::kPresent: return columns[step.column]->present(block, out);
    case FilterOp::kIsTrue: return columns[step.column]->equals(true, block, out);
    case FilterOp::kIsFalse: return columns[step.column]->equals(false, block, out);
    case FilterOp::kAnyWord: return columns[step.column]->any_word(words(), block, out);
    case FilterOp::kEveryWord: return columns[step.column]->every_word(words(), block, out);
    case FilterOp::kInRange:
      return columns[step.column]->in_range(program.numbers[step.first], program.numbers[step.first + 1], block, out);
    case FilterOp::kAnyNumber: return columns[step.column]->any_number(program.sets[step.first], block, out);
    case FilterOp::kEveryNumber: return columns[step.column]->every_number(program.sets[step.first], block, out);
    case FilterOp::kAnd:
    case FilterOp::kOr:
    case FilterOp::kAndNot: return;  // joined by run()
  }
}

void run(const FilterProgram& program, const Columns& columns, const Block& block, size_t stack_size, uint64_t* out,
         std::chrono::steady_clock::time_point deadline) {
  std::vector<uint64_t> stack(stack_size * block.words);
  size_t height = 0;
  const auto bitmap = [&](size_t place) { return stack.data() + place * block.words; };
  for (const FilterStep& step : program.steps) {
    if (std::chrono::steady_clock::now() > deadline) {
      throw Error(codes::kDeadlineExceeded, "filter: the deadline passed while it was evaluated");
    }
    if (!joins(step.op)) {
      push(program, step, columns, block, bitmap(height++));
      continue;
    }
    const uint64_t* upper = bitmap(--height);
    uint64_t* lower = bitmap(height - 1);
    for (size_t w = 0; w < block.words; ++w) {
      if (step.op == FilterOp::kAnd) lower[w] &= upper[w];
      if (step.op == FilterOp::kOr) lower[w] |= upper[w];
      if (step.op == FilterOp::kAndNot) lower[w] &= ~upper[w];
    }
  }
  std::copy_n(stack.data(), block.words, out);
}

}  // namespace

std::shared_ptr<const RowFilter> evaluate_filter(FilterProgram program, const Columns& columns, uint32_t rows,
                                                 size_t threads, std::chrono::steady_clock::time_point deadline) {
  const size_t stack_size = prepare(program, columns, rows);
  std::vector<uint64_t> words((size_t{rows} + 63) / 64);
  const size_t blocks = (words.size() + Block::kWordsMax - 1) / Block::kWordsMax;
  ThreadPool::instance().parallel_for(blocks, threads, [&](size_t at) {
    const size_t first = at * Block::kWordsMax;
    const Block block{first, std::min(Block::kWordsMax, words.size() - first)};
    run(program, columns, block, stack_size, words.data() + first, deadline);
  });
  return std::make_shared<const RowFilter>(rows, std::move(words));
}

}  // namespace belfry
