#include "core/item_json.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <string_view>

namespace belfry {

namespace {

using namespace std::string_view_literals;

constexpr std::array<double, 12> kPowers{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11};
constexpr int kDigits = 9;

void append_integer(uint64_t number, std::string& out) {
  std::array<char, 20> digits;
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), number);
  out.append(digits.data(), end);
}

void append_text(std::span<const uint8_t> text, std::string& out) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  for (const uint8_t byte : text) {
    if (byte == '"' || byte == '\\') {
      out += '\\';
      out += static_cast<char>(byte);
    } else if (byte < 0x20) {
      out += "\\u00"sv;
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += static_cast<char>(byte);
    }
  }
  out += '"';
}

bool append_id(const ItemIds& ids, uint32_t row, std::string& out) {
  if (row >= ids.size) return false;
  switch (ids.kind) {
    case ItemIds::Kind::kRows:
      append_integer(row, out);
      return true;
    case ItemIds::Kind::kIntegers:
      append_integer(static_cast<uint64_t>(ids.integers[row]), out);
      return true;
    case ItemIds::Kind::kText: {
      const uint32_t start = row == 0 ? 0 : ids.ends[row - 1];
      const uint32_t end = ids.ends[row];
      if (end < start || end > ids.text.size()) return false;
      append_text(ids.text.subspan(start, end - start), out);
      return true;
    }
  }
  return false;
}

}  // namespace

void append_score(float score, std::string& out) {
  const double size = std::fabs(static_cast<double>(score));
  if (size == 0) {
    out += '0';
    return;
  }
  if (score < 0) out += '-';
  if (!(size >= 1e-3 && size < 1e6)) {
    std::array<char, 24> digits;
    const auto [end, error] =
        std::to_chars(digits.data(), digits.data() + digits.size(), size, std::chars_format::general, kDigits);
    out.append(digits.data(), end);
    return;
  }
  // Exact in 53 bits: 24 of the float, and 26 of 5^11.
  int places = kDigits - 1 - static_cast<int>(std::floor(std::log10(size)));
  auto number = static_cast<uint64_t>(std::floor(size * kPowers[static_cast<size_t>(places)] + 0.5));
  for (; places > 0 && number % 10 == 0; --places) number /= 10;
  const auto unit = static_cast<uint64_t>(kPowers[static_cast<size_t>(places)]);
  append_integer(number / unit, out);
  if (places == 0) return;
  uint64_t rest = number % unit;
  const size_t point = out.size();
  out.append(static_cast<size_t>(places) + 1, '.');
  for (size_t at = out.size() - 1; at > point; --at, rest /= 10) out[at] = static_cast<char>('0' + rest % 10);
}

bool append_items(const ItemIds& ids, const ItemHits& hits, uint32_t count, std::string& out) {
  out += '[';
  for (uint32_t place = 0; place < count; ++place) {
    const uint32_t at = hits.order.empty() ? place : hits.order[place];
    if (at >= hits.rows.size() || !std::isfinite(hits.scores[at])) return false;
    out += place == 0 ? R"({"id":)"sv : R"(,{"id":)"sv;
    if (!append_id(ids, hits.rows[at], out)) return false;
    const bool is_reranked = !hits.reranked.empty() && std::isfinite(hits.reranked[at]);
    out += R"(,"score":)"sv;
    const size_t start = out.size();
    append_score(is_reranked ? hits.reranked[at] : hits.scores[at], out);
    const size_t length = out.size() - start;
    out += R"(,"retrieval_score":)"sv;
    if (is_reranked) {
      append_score(hits.scores[at], out);
    } else {
      out.append(out, start, length);
    }
    out += R"(,"retrieval_rank":)"sv;
    append_integer(uint64_t{at} + 1, out);
    out += '}';
  }
  out += ']';
  return true;
}

}  // namespace belfry
