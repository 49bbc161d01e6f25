#include "core/item_json.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>
#include <string_view>

namespace belfry {

namespace {

using namespace std::string_view_literals;

constexpr std::array<double, 12> kPowers{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11};
constexpr int kDigits = 9;
constexpr auto kId = R"(,{"id":)"sv;
constexpr auto kScore = R"(,"score":)"sv;
constexpr auto kRetrievalScore = R"(,"retrieval_score":)"sv;
constexpr auto kRetrievalRank = R"(,"retrieval_rank":)"sv;
constexpr size_t kEscapedBytes = 6;
constexpr size_t kIntegerBytes = 20;
// Of an item, but for an id that is text.
constexpr size_t kItemBytes = kId.size() + kScore.size() + kRetrievalScore.size() + kRetrievalRank.size() +
                              2 * kScoreBytes + 2 * kIntegerBytes + 2 + sizeof('}');

char* put(std::string_view text, char* out) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

char* put_integer(uint64_t number, char* out) { return std::to_chars(out, out + kIntegerBytes, number).ptr; }

char* put_text(std::span<const uint8_t> text, char* out) {
  constexpr std::string_view kHex = "0123456789abcdef";
  *out++ = '"';
  for (const uint8_t byte : text) {
    if (byte == '"' || byte == '\\') {
      *out++ = '\\';
      *out++ = static_cast<char>(byte);
    } else if (byte < 0x20) {
      out = put("\\u00"sv, out);
      *out++ = kHex[byte >> 4];
      *out++ = kHex[byte & 15];
    } else {
      *out++ = static_cast<char>(byte);
    }
  }
  *out++ = '"';
  return out;
}

std::span<const uint8_t> text_of(const ItemIds& ids, uint32_t row) {
  const uint32_t start = row == 0 ? 0 : ids.ends[row - 1];
  return ids.text.subspan(start, ids.ends[row] - start);
}

uint32_t position_of(const ItemHits& hits, uint32_t place) { return hits.order.empty() ? place : hits.order[place]; }

// Bytes that the ids take at most. Each is somewhere else in the memory, and what one waits for all may wait for at
// once.
std::optional<size_t> id_bytes(const ItemIds& ids, const ItemHits& hits, uint32_t count) {
  for (uint32_t place = 0; place < count; ++place) {
    const uint32_t at = position_of(hits, place);
    if (at >= hits.rows.size() || hits.rows[at] >= ids.size) return std::nullopt;
    if (ids.kind == ItemIds::Kind::kText) __builtin_prefetch(&ids.ends[hits.rows[at]]);
    if (ids.kind == ItemIds::Kind::kIntegers) __builtin_prefetch(&ids.integers[hits.rows[at]]);
  }
  if (ids.kind != ItemIds::Kind::kText) return 0;
  size_t bytes = 0;
  for (uint32_t place = 0; place < count; ++place) {
    const uint32_t row = hits.rows[position_of(hits, place)];
    const uint32_t start = row == 0 ? 0 : ids.ends[row - 1];
    const uint32_t end = ids.ends[row];
    if (end < start || end > ids.text.size()) return std::nullopt;
    __builtin_prefetch(ids.text.data() + start);
    __builtin_prefetch(ids.text.data() + end);
    bytes += kEscapedBytes * (end - start);
  }
  return bytes;
}

char* put_id(const ItemIds& ids, uint32_t row, char* out) {
  switch (ids.kind) {
    case ItemIds::Kind::kText: return put_text(text_of(ids, row), out);
    case ItemIds::Kind::kIntegers: return put_integer(static_cast<uint64_t>(ids.integers[row]), out);
    case ItemIds::Kind::kRows: return put_integer(row, out);
  }
  return out;
}

// Digits before the point, less one: below 0 for sizes below 1.
int exponent_of(double size) {
  if (size < 1) return size < 1e-2 ? -3 : size < 1e-1 ? -2 : -1;
  int exponent = 0;
  while (size >= kPowers[static_cast<size_t>(exponent) + 1]) ++exponent;
  return exponent;
}

}  // namespace

char* put_score(float score, char* out) {
  const double size = std::fabs(static_cast<double>(score));
  if (size == 0) return put("0"sv, out);
  if (score < 0) *out++ = '-';
  if (!(size >= 1e-3 && size < 1e6)) {
    return std::to_chars(out, out + kScoreBytes - 1, size, std::chars_format::general, kDigits).ptr;
  }
  // Exact in 53 bits: 24 of the float, and 26 of 5^11.
  auto places = static_cast<size_t>(kDigits - 1 - exponent_of(size));
  auto number = static_cast<uint64_t>(size * kPowers[places] + 0.5);
  for (; places > 0 && number % 10 == 0; --places) number /= 10;
  const auto unit = static_cast<uint64_t>(kPowers[places]);
  out = put_integer(number / unit, out);
  if (places == 0) return out;
  *out++ = '.';
  uint64_t rest = number % unit;
  for (char* digit = out + places; digit > out; rest /= 10) *--digit = static_cast<char>('0' + rest % 10);
  return out + places;
}

bool items_json(const ItemIds& ids, const ItemHits& hits, uint32_t count, std::string& out) {
  const std::optional<size_t> bytes = id_bytes(ids, hits, count);
  if (!bytes) return false;
  out.resize(*bytes + size_t{count} * kItemBytes + 2);
  char* end = out.data();
  *end++ = '[';
  for (uint32_t place = 0; place < count; ++place) {
    const uint32_t at = position_of(hits, place);
    if (!std::isfinite(hits.scores[at])) return false;
    const bool is_reranked = !hits.reranked.empty() && std::isfinite(hits.reranked[at]);
    end = put(place == 0 ? kId.substr(1) : kId, end);
    end = put_id(ids, hits.rows[at], end);
    end = put(kScore, end);
    const char* const score = end;
    end = put_score(is_reranked ? hits.reranked[at] : hits.scores[at], end);
    const std::string_view written(score, static_cast<size_t>(end - score));
    end = put(kRetrievalScore, end);
    end = is_reranked ? put_score(hits.scores[at], end) : put(written, end);
    end = put(kRetrievalRank, end);
    end = put_integer(uint64_t{at} + 1, end);
    *end++ = '}';
  }
  *end++ = ']';
  out.resize(static_cast<size_t>(end - out.data()));
  return true;
}

}  // namespace belfry
