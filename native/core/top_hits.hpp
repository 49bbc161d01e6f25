#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace belfry {

struct Hit {
  double score;
  uint32_t row;
};

// Better first; equal scores by smaller row. A total order, so results do not depend on the order of arrival.
struct BetterHit {
  bool operator()(const Hit& a, const Hit& b) const noexcept {
    return a.score != b.score ? a.score > b.score : a.row < b.row;
  }
};

// Keeps the best `k` of the hits offered, in a buffer of 2k + 64 that is cut back when full.
class TopHits {
 public:
  explicit TopHits(size_t k) : k_(k) {
    if (k <= kReserved) hits_.reserve(2 * k + 64);
  }

  void offer(double score, uint32_t row) {
    if (score < threshold_) return;
    hits_.push_back({score, row});
    if (hits_.size() >= 2 * k_ + 64) cut();
  }
  void absorb(const TopHits& other) {
    for (const Hit& hit : other.hits_) offer(hit.score, hit.row);
  }
  // The k-th best score so far, or minus infinity. Exact only right after cut() or finish(), a lower bound otherwise.
  double threshold() const noexcept { return threshold_; }

  void cut() {
    if (hits_.size() < k_ || k_ == 0) return;
    std::nth_element(hits_.begin(), hits_.begin() + static_cast<std::ptrdiff_t>(k_ - 1), hits_.end(), BetterHit{});
    hits_.resize(k_);
    threshold_ = hits_[k_ - 1].score;
  }
  // The best k, best first.
  const std::vector<Hit>& finish() {
    cut();
    std::sort(hits_.begin(), hits_.end(), BetterHit{});
    return hits_;
  }

 private:
  static constexpr size_t kReserved = 1024;

  size_t k_;
  double threshold_ = -std::numeric_limits<double>::infinity();
  std::vector<Hit> hits_;
};

}  // namespace belfry
