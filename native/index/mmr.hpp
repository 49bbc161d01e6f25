#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/kernels.hpp"

namespace belfry {

// Groups that a list may hold only so many of: candidate i is in groups[offsets[i]] up to groups[offsets[i + 1]], and
// no more than limits[g] of group g are chosen.
struct Caps {
  std::vector<uint32_t> offsets;  // count + 1, or empty: no caps
  std::vector<uint32_t> groups;
  std::vector<uint32_t> limits;
};

struct MmrJob {
  uint32_t count = 0;
  uint32_t dims = 0;
  uint32_t k = 0;                // how many to choose, besides those that are chosen already
  uint32_t chosen = 0;           // the first ones are in the list already; their relevance does not matter
  double diversity = 0;          // 1 - lambda: 0 looks at relevance only, 1 at similarity only
  std::vector<float> vectors;    // count x dims, row-major; scaled to unit length here
  std::vector<float> relevance;  // count, finite, larger is better; only its differences matter
  Caps caps;
};

// Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): one after another, the candidate with the largest
//   (1 - diversity) * relevance - diversity * (largest cosine with what is chosen)
// among those that the caps leave. Relevance is scaled to 0..1 over the candidates, so that both terms have one size.
// Equal values: the smaller position. Positions in the order in which they are chosen; fewer than k when no more are
// left. The largest cosines are kept from step to step, so a step costs one dot product per candidate that is left:
// O(k * count * dims) in all. `check` is called before each step and may throw.
std::vector<uint32_t> choose_diverse(MmrJob& job, const KernelTable& kernel, const std::function<void()>& check);

}  // namespace belfry
