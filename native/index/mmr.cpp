#include "index/mmr.hpp"

#include <algorithm>
#include <cmath>

namespace belfry {

namespace {

// A zero vector stays zero: it is like nothing.
void scale_to_unit_length(float* vector, uint32_t dims) {
  double squares = 0;
  for (uint32_t d = 0; d < dims; ++d) squares += double{vector[d]} * double{vector[d]};
  if (squares == 0) return;
  const double scale = 1 / std::sqrt(squares);
  for (uint32_t d = 0; d < dims; ++d) vector[d] = static_cast<float>(double{vector[d]} * scale);
}

// What may still be chosen of each group.
class Allowance {
 public:
  explicit Allowance(const Caps& caps) : caps_(caps), left_(caps.limits) {}

  bool allows(uint32_t candidate) const {
    if (caps_.offsets.empty()) return true;
    for (uint32_t at = caps_.offsets[candidate]; at < caps_.offsets[candidate + 1]; ++at) {
      if (left_[caps_.groups[at]] == 0) return false;
    }
    return true;
  }
  // True when a group is full now.
  bool take(uint32_t candidate) {
    if (caps_.offsets.empty()) return false;
    bool filled = false;
    for (uint32_t at = caps_.offsets[candidate]; at < caps_.offsets[candidate + 1]; ++at) {
      uint32_t& left = left_[caps_.groups[at]];
      if (left == 0) continue;  // chosen beforehand, against the cap
      filled |= --left == 0;
    }
    return filled;
  }

 private:
  const Caps& caps_;
  std::vector<uint32_t> left_;
};

}  // namespace

std::vector<uint32_t> choose_diverse(MmrJob& job, const KernelTable& kernel, const std::function<void()>& check) {
  const uint32_t dims = job.dims;
  for (uint32_t i = 0; i < job.count; ++i) scale_to_unit_length(job.vectors.data() + size_t{i} * dims, dims);

  // Candidates that are left, in parallel arrays; their order does not matter.
  std::vector<uint32_t> left;
  std::vector<double> relevance, largest, cosines(job.count);
  const auto [least, most] = std::minmax_element(job.relevance.begin() + job.chosen, job.relevance.end());
  const double range = least == job.relevance.end() ? 0 : double{*most} - double{*least};
  for (uint32_t i = job.chosen; i < job.count; ++i) {
    left.push_back(i);
    relevance.push_back(range > 0 ? (double{job.relevance[i]} - double{*least}) / range : 0);
    largest.push_back(-1);
  }
  const auto remove = [&](size_t at) {
    left[at] = left.back();
    relevance[at] = relevance.back();
    largest[at] = largest.back();
    left.pop_back();
    relevance.pop_back();
    largest.pop_back();
  };

  Allowance allowance(job.caps);
  const auto drop_full = [&] {
    for (size_t at = left.size(); at-- > 0;) {
      if (!allowance.allows(left[at])) remove(at);
    }
  };
  const auto compare_with = [&](uint32_t chosen) {
    if (job.diversity == 0) return;
    ScoreJob score{};
    score.base = reinterpret_cast<const unsigned char*>(job.vectors.data());
    score.row_bytes = size_t{dims} * sizeof(float);
    score.format = RowFormat::kF32;
    score.score = RowScore::kIp;
    score.dims = dims;
    score.query = job.vectors.data() + size_t{chosen} * dims;
    score.rows = left.data();
    score.count = static_cast<uint32_t>(left.size());
    score.out = cosines.data();
    kernel.score_rows(score);
    for (size_t at = 0; at < left.size(); ++at) largest[at] = std::max(largest[at], cosines[at]);
  };
  for (uint32_t i = 0; i < job.chosen; ++i) allowance.take(i);
  drop_full();
  for (uint32_t i = 0; i < job.chosen; ++i) {
    check();
    compare_with(i);
  }

  std::vector<uint32_t> order;
  while (order.size() < job.k && !left.empty()) {
    check();
    size_t best = 0;
    double value = 0;
    for (size_t at = 0; at < left.size(); ++at) {
      const double own = (1 - job.diversity) * relevance[at] - job.diversity * largest[at];
      if (at > 0 && (own < value || (own == value && left[at] > left[best]))) continue;
      best = at;
      value = own;
    }
    const uint32_t pick = left[best];
    order.push_back(pick);
    remove(best);
    if (allowance.take(pick)) drop_full();
    compare_with(pick);
  }
  return order;
}

}  // namespace belfry
