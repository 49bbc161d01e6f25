#include "index/candidate_lists.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace belfry {

namespace {

constexpr uint32_t kCapacityMin = 64;
// A list of the bound discipline may hold this many survivors per wanted hit, and never fewer than kBoundMin: beyond
// that, scoring them one by one costs about as much as a plain scan of the vectors.
constexpr uint32_t kBoundPerHit = 8;
constexpr uint32_t kBoundMin = 8192;

uint32_t limit_for(uint32_t k) { return std::max(kBoundMin, kBoundPerHit * k); }
constexpr uint32_t kPassesMax = 12;
constexpr float kNone = -std::numeric_limits<float>::infinity();

// Counts the keys from `bound` on.
uint32_t count_from(const float* keys, uint32_t size, float bound) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < size; ++i) count += keys[i] >= bound ? 1 : 0;
  return count;
}

// A bound that `keep` to `most` of the keys reach, by bisection: a few passes that the compiler vectorises, where a
// selection mispredicts at every other key. NaN when there is none (many equal keys) or the search takes too long.
float bound_between(const float* keys, uint32_t size, uint32_t keep, uint32_t most) {
  float low = keys[0], high = keys[0];
  for (uint32_t i = 1; i < size; ++i) {
    low = std::min(low, keys[i]);
    high = std::max(high, keys[i]);
  }
  for (uint32_t pass = 0; pass < kPassesMax; ++pass) {
    const float middle = low + (high - low) / 2;
    const uint32_t count = count_from(keys, size, middle);
    if (count >= keep && count <= most) return middle;
    (count < keep ? high : low) = middle;
  }
  return std::numeric_limits<float>::quiet_NaN();
}

uint32_t capacity_for(uint32_t keep) { return std::max(kCapacityMin, keep < 1024 ? 4 * keep : 2 * keep); }

}  // namespace

CandidateLists::CandidateLists(const RowOrder& order, size_t queries, uint32_t keep)
    : order_(order), keep_(keep), thresholds_(queries, kNone), heads_(queries), lists_(queries) {
  for (size_t q = 0; q < queries; ++q) {
    lists_[q].owner = this;
    heads_[q].owner = &lists_[q];
    heads_[q].prune = [](Candidates* head) { return static_cast<List*>(head->owner)->owner->cut_to_best(*head); };
    reserve(heads_[q], capacity_for(keep));
  }
}

CandidateLists::CandidateLists(const RowOrder& order, const QueryCodes& codes, const CodeView& items, size_t first,
                               size_t queries, uint32_t k)
    : CandidateLists(order, queries, k) {
  items_ = items;
  limit_ = limit_for(k);
  for (size_t q = 0; q < queries; ++q) {
    lists_[q].error_weight = codes.error_weight(first + q);
    lists_[q].norm_weight = codes.norm_weight(first + q);
    lists_[q].margin = codes.margin(first + q);
    heads_[q].prune = [](Candidates* head) { return static_cast<List*>(head->owner)->owner->cut_to_bounds(*head); };
  }
}

void CandidateLists::exclude(const Exclusions& exclusions, size_t first) {
  for (size_t q = 0; q < lists_.size(); ++q) lists_[q].excluded = exclusions.of(first + q);
}

size_t CandidateLists::bytes_per_query(uint32_t keep, bool bounds) noexcept {
  return size_t{(bounds ? limit_for(keep) : capacity_for(keep)) + kTileRows} * 16;
}

void CandidateLists::reserve(Candidates& head, uint32_t capacity) {
  List& list = *static_cast<List*>(head.owner);
  list.keys.resize(capacity + kTileRows);
  list.rows.resize(capacity + kTileRows);
  head.keys = list.keys.data();
  head.rows = list.rows.data();
  head.capacity = capacity;
}

void CandidateLists::collect(size_t q, std::vector<uint64_t>& out) {
  if (limit_ == 0 && heads_[q].size > keep_ + keep_ / 2) (void)cut_to_best(heads_[q]);
  collect(heads_[q], out);
}

void CandidateLists::collect(const Candidates& head, std::vector<uint64_t>& out) const {
  const ExcludedRows& excluded = static_cast<const List*>(head.owner)->excluded;
  for (uint32_t i = 0; i < head.size; ++i) {
    const uint32_t row = order_.external(head.rows[i]);
    if (!excluded.contains(row)) out.push_back(pack_candidate(head.keys[i], row));
  }
}

// Before each cut, so that excluded rows neither count among the best nor raise the threshold: the survivors are those
// of a scan that never saw them. Each was in the list once, so this costs a look-up per survivor and nothing per row.
void CandidateLists::drop_excluded(Candidates& head) const noexcept {
  const ExcludedRows& excluded = static_cast<const List*>(head.owner)->excluded;
  if (excluded.empty()) return;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < head.size; ++i) {
    if (excluded.contains(order_.external(head.rows[i]))) continue;
    head.keys[kept] = head.keys[i];
    head.rows[kept++] = head.rows[i];
  }
  head.size = kept;
}

// The threshold that lets everything pass which may still beat a row of this key. External rows that arrive in
// ascending order lose a tie to those before them; in any other order a later row may win it.
float CandidateLists::admits_from(float key) const noexcept {
  return order_.identity() ? key : std::nextafter(key, kNone);
}

float CandidateLists::cut_to_best(Candidates& head) const {
  drop_excluded(head);
  if (head.size < keep_) return kNone;  // so it is the first cut
  const float bound = bound_between(head.keys, head.size, keep_, keep_ + keep_ / 2);
  if (!std::isnan(bound)) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < head.size; ++i) {
      const float key = head.keys[i];
      head.keys[kept] = key;
      head.rows[kept] = head.rows[i];
      kept += key >= bound ? 1 : 0;
    }
    head.size = kept;
    return std::nextafter(bound, kNone);  // an equal key may still win the tie
  }
  std::vector<uint64_t>& packed = static_cast<List*>(head.owner)->packed;
  packed.clear();
  collect(head, packed);
  const auto last = packed.begin() + static_cast<std::ptrdiff_t>(keep_ - 1);
  std::nth_element(packed.begin(), last, packed.end(), std::greater<>{});
  for (uint32_t i = 0; i < keep_; ++i) {
    head.keys[i] = packed_key(packed[i]);
    head.rows[i] = order_.internal(packed_row(packed[i]));
  }
  head.size = keep_;
  return admits_from(packed_key(*last));
}

// The key is the upper bound: key of the codes + error. Twice the error below it is the lower bound; less the margin it
// also bounds the f64 scores, which decide in the end: far from all rows, those of l2 differ by less than they round.
double CandidateLists::lower_bound(const Candidates& head, size_t entry) const noexcept {
  const List& list = *static_cast<const List*>(head.owner);
  const uint32_t row = head.rows[entry];
  const double error = list.error_weight * items_.error[row] + list.norm_weight * items_.norm[row];
  return head.keys[entry] - error * (2 + 1e-5) - list.margin;
}

// At least k rows score no less than the k-th best lower bound, so a row whose upper bound is below that cannot be
// among the best k; one that equals it may only win a tie.
float CandidateLists::cut_to_bounds(Candidates& head) const {
  List& list = *static_cast<List*>(head.owner);
  if (list.overflowed) {
    head.size = 0;
    return std::numeric_limits<float>::infinity();
  }
  drop_excluded(head);
  if (head.size < keep_) return kNone;
  std::vector<uint64_t>& packed = list.packed;
  packed.clear();
  for (uint32_t i = 0; i < head.size; ++i) {
    // Towards minus infinity: rounding up would make the bound a lie.
    float bound = static_cast<float>(lower_bound(head, i));
    bound = std::nextafter(bound, kNone);
    packed.push_back(pack_candidate(bound, head.rows[i]));
  }
  const auto last = packed.begin() + static_cast<std::ptrdiff_t>(keep_ - 1);
  std::nth_element(packed.begin(), last, packed.end(), std::greater<>{});
  const float threshold = packed_key(*last);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < head.size; ++i) {
    if (head.keys[i] < threshold) continue;
    head.keys[kept] = head.keys[i];
    head.rows[kept++] = head.rows[i];
  }
  head.size = kept;
  if (kept > head.capacity / 4 * 3) {
    if (head.capacity >= limit_) {
      list.overflowed = true;
      head.size = 0;
      return std::numeric_limits<float>::infinity();
    }
    reserve(head, std::min(limit_, head.capacity * 2));
  }
  return admits_from(threshold);
}

}  // namespace belfry
