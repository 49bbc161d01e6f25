#include "core/copy_rows.hpp"

#include <algorithm>
#include <cstring>

namespace belfry {

namespace {

// Rows lie anywhere in the table: so many of them are asked of the memory before the first is needed.
constexpr size_t kAhead = 8;
constexpr size_t kLineWords = 16;

void prefetch(const int32_t* row, size_t width) {
  for (size_t word = 0; word < width; word += kLineWords) __builtin_prefetch(row + word);
  __builtin_prefetch(row + width - 1);
}

const int32_t* row_of(const RowCopy& job, size_t i) {
  return job.table.data() + static_cast<size_t>(job.rows[i]) * job.width;
}

}  // namespace

bool copy_rows(const RowCopy& job) {
  const auto& [table, width, rows, out, stride, at, step] = job;
  if (rows.empty()) return true;
  if (width == 0 || step == 0) return false;
  const size_t count = table.size() / width;
  const int32_t last = *std::max_element(rows.begin(), rows.end());
  if (last >= 0 && static_cast<size_t>(last) >= count) return false;
  if (at + (rows.size() - 1) * stride + (width - 1) * step >= out.size()) return false;
  for (size_t i = 0; i < std::min(kAhead, rows.size()); ++i) {
    if (rows[i] >= 0) prefetch(row_of(job, i), width);
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i + kAhead < rows.size() && rows[i + kAhead] >= 0) prefetch(row_of(job, i + kAhead), width);
    if (rows[i] < 0) continue;
    const int32_t* from = row_of(job, i);
    int32_t* to = out.data() + at + i * stride;
    if (step == 1) {
      std::memcpy(to, from, width * sizeof(int32_t));
    } else {
      for (size_t word = 0; word < width; ++word) to[word * step] = from[word];
    }
  }
  return true;
}

}  // namespace belfry
