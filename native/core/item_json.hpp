#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace belfry {

// Ids by row: UTF-8, one behind the other, id r ending before byte ends[r]; or integers below 2^53; or the row numbers.
struct ItemIds {
  enum class Kind : uint8_t { kText, kIntegers, kRows };
  Kind kind = Kind::kRows;
  std::span<const uint8_t> text;
  std::span<const uint32_t> ends;
  std::span<const double> integers;
  uint32_t size = 0;
};

// Hits of a search, best first.
struct ItemHits {
  std::span<const uint32_t> rows;
  std::span<const float> scores;
  // Both empty, or as long as the rows: positions in another order, and by position the scores behind it, which may be
  // NaN.
  std::span<const uint32_t> order;
  std::span<const float> reranked;
};

// The first `count` hits as a JSON array of {id, score, retrieval_score, retrieval_rank}, in the place of what `out`
// held. False, with nothing of use in it, where an item has no id here (a row beyond them), or no score that JSON can
// carry.
bool items_json(const ItemIds& ids, const ItemHits& hits, uint32_t count, std::string& out);

inline constexpr size_t kScoreBytes = 24;

// Nine digits, which name every 32-bit float, as JavaScript prints `Number(score.toPrecision(9))`; the end of them,
// kScoreBytes after `out` at most. Below 1e-3 and from 1e6 on the notation may be another one of the same number, and
// of two decimals that are as near the even one is taken. The score is finite.
char* put_score(float score, char* out);

}  // namespace belfry
