#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace belfry {

// A set of numbers for the question "is this one of them?", asked of every row: nearly every other number fails a test
// of one bit, a search among the sorted ones answers the rest.
class NumberSet {
 public:
  // Any order, duplicates allowed, no NaN.
  explicit NumberSet(std::span<const double> numbers) : sorted_(numbers.begin(), numbers.end()) {
    std::sort(sorted_.begin(), sorted_.end());
    sorted_.erase(std::unique(sorted_.begin(), sorted_.end()), sorted_.end());
    const size_t bits = std::bit_ceil(std::max<size_t>(64, sorted_.size() * kBitsPerNumber));
    shift_ = 64 - std::countr_zero(bits);
    marks_.resize(bits / 64);
    for (double number : sorted_) marks_[place(number) / 64] |= uint64_t{1} << (place(number) % 64);
  }

  bool has(double number) const noexcept {
    const uint64_t at = place(number);
    if ((marks_[at / 64] >> (at % 64) & 1) == 0) return false;
    const auto found = std::lower_bound(sorted_.begin(), sorted_.end(), number);
    return found != sorted_.end() && *found == number;  // NaN equals nothing
  }
  size_t size() const noexcept { return sorted_.size(); }
  // Ascending, distinct.
  const std::vector<double>& sorted() const noexcept { return sorted_; }

 private:
  static constexpr size_t kBitsPerNumber = 32;

  uint64_t place(double number) const noexcept {
    const uint64_t bits = std::bit_cast<uint64_t>(number + 0.0);  // -0 and 0 are one number
    return (bits ^ bits >> 32) * 0x9E3779B97F4A7C15ULL >> shift_;
  }

  std::vector<double> sorted_;
  std::vector<uint64_t> marks_;
  int shift_ = 0;
};

}  // namespace belfry
