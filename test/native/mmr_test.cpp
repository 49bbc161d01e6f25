// Diverse choices against the definition: every step looks at every candidate and every chosen one anew.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "check.hpp"
#include "index/mmr.hpp"
#include "kernels/cpu.hpp"

namespace {

using namespace belfry;

double cosine(const MmrJob& job, uint32_t a, uint32_t b) {
  double dot = 0, aa = 0, bb = 0;
  for (uint32_t d = 0; d < job.dims; ++d) {
    const double x = job.vectors[size_t{a} * job.dims + d], y = job.vectors[size_t{b} * job.dims + d];
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return aa == 0 || bb == 0 ? 0 : dot / std::sqrt(aa * bb);
}

bool fits(const MmrJob& job, const std::vector<uint32_t>& list, uint32_t candidate) {
  const Caps& caps = job.caps;
  if (caps.offsets.empty()) return true;
  for (uint32_t at = caps.offsets[candidate]; at < caps.offsets[candidate + 1]; ++at) {
    uint32_t held = 0;
    for (const uint32_t other : list) {
      for (uint32_t o = caps.offsets[other]; o < caps.offsets[other + 1]; ++o)
        held += caps.groups[o] == caps.groups[at];
    }
    if (held >= caps.limits[caps.groups[at]]) return false;
  }
  return true;
}

double value_of(const MmrJob& job, const std::vector<uint32_t>& list, uint32_t candidate) {
  float least = INFINITY, most = -INFINITY;
  for (uint32_t i = job.chosen; i < job.count; ++i) {
    least = std::min(least, job.relevance[i]);
    most = std::max(most, job.relevance[i]);
  }
  const double range = double{most} - double{least};
  const double relevance = range > 0 ? (double{job.relevance[candidate]} - double{least}) / range : 0;
  double largest = -1;
  for (const uint32_t other : list) largest = std::max(largest, cosine(job, candidate, other));
  return (1 - job.diversity) * relevance - job.diversity * largest;
}

MmrJob random_job(uint32_t seed) {
  std::mt19937 random(seed);
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  std::normal_distribution<float> normal(0, 1);
  MmrJob job;
  job.count = 1 + below(60);
  job.dims = 1 + below(40);
  job.k = 1 + below(job.count + 5);
  job.chosen = below(std::min(job.count, 4U) + 1);
  job.diversity = std::vector<double>{0, 0.2, 0.5, 0.9, 1}[below(5)];
  for (uint32_t i = 0; i < job.count * job.dims; ++i) job.vectors.push_back(normal(random));
  if (below(4) == 0) std::fill_n(job.vectors.begin(), job.dims, 0.F);
  for (uint32_t i = 0; i < job.count; ++i) job.relevance.push_back(normal(random));
  if (below(2) == 0) {
    const uint32_t groups = 1 + below(8);
    for (uint32_t g = 0; g < groups; ++g) job.caps.limits.push_back(below(4));
    job.caps.offsets.push_back(0);
    for (uint32_t i = 0; i < job.count; ++i) {
      const uint32_t first = below(groups);
      if (below(5) != 0) job.caps.groups.push_back(first);
      if (groups > 1 && below(3) == 0) job.caps.groups.push_back((first + 1) % groups);
      job.caps.offsets.push_back(static_cast<uint32_t>(job.caps.groups.size()));
    }
  }
  return job;
}

// Each choice is the best that the definition allows at its step, up to the rounding of the unit vectors.
TEST(diverse_choice_is_that_of_the_definition) {
  constexpr double kRounding = 1e-5;
  for (uint32_t round = 0; round < 400; ++round) {
    const MmrJob job = random_job(belfry::test::seed(round));
    MmrJob copy = job;
    const std::vector<uint32_t> order = choose_diverse(copy, *available_kernels().front(), [] {});
    std::vector<uint32_t> list;
    for (uint32_t i = 0; i < job.chosen; ++i) list.push_back(i);
    const auto is_left = [&](uint32_t i) {
      return std::find(list.begin(), list.end(), i) == list.end() && fits(job, list, i);
    };
    for (const uint32_t pick : order) {
      CHECK_MESSAGE(is_left(pick), "round " + std::to_string(round));
      double best = -INFINITY;
      for (uint32_t i = job.chosen; i < job.count; ++i) {
        if (is_left(i)) best = std::max(best, value_of(job, list, i));
      }
      CHECK_MESSAGE(value_of(job, list, pick) >= best - kRounding, "round " + std::to_string(round));
      list.push_back(pick);
    }
    uint32_t more = 0;
    for (uint32_t i = job.chosen; i < job.count; ++i) more += is_left(i);
    CHECK_MESSAGE(order.size() == job.k || more == 0, "round " + std::to_string(round));
  }
}

TEST(diverse_choice_takes_the_smaller_position_of_equals_and_is_the_same_on_every_level) {
  MmrJob equal;
  equal.count = 9;
  equal.dims = 3;
  equal.k = 9;
  equal.diversity = 0.5;
  equal.vectors.assign(27, 1);
  equal.relevance.assign(9, 2);
  const std::vector<uint32_t> order = choose_diverse(equal, *available_kernels().front(), [] {});
  CHECK((order == std::vector<uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8}));
  for (uint32_t round = 0; round < 50; ++round) {
    MmrJob first = random_job(belfry::test::seed(1000 + round));
    const MmrJob job = first;
    const std::vector<uint32_t> expected = choose_diverse(first, *available_kernels().front(), [] {});
    for (const KernelTable* kernel : available_kernels()) {
      MmrJob other = job;
      CHECK_MESSAGE(choose_diverse(other, *kernel, [] {}) == expected, kernel->name);
    }
  }
}

TEST(diverse_choice_stops_when_the_check_throws) {
  MmrJob job = random_job(7);
  job.k = job.count;
  job.chosen = 0;
  job.caps = {};
  bool thrown = false;
  try {
    (void)choose_diverse(job, *available_kernels().front(), [] { throw 1; });
  } catch (int) {
    thrown = true;
  }
  CHECK(thrown);
}

}  // namespace
