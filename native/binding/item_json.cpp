#include "core/item_json.hpp"

#include <algorithm>
#include <string>

#include "binding/addon_state.hpp"
#include "binding/arguments.hpp"
#include "binding/exports.hpp"
#include "core/error.hpp"

namespace belfry::binding {

namespace {

// Longer answers give their memory back.
constexpr size_t kKeptBytes = 64 * 1024;

ItemIds read_ids(const Napi::Value& values, const Napi::Value& ends, const Napi::Value& size) {
  ItemIds ids;
  ids.size = static_cast<uint32_t>(read_integer(size, "size", 0, kRowsMax));
  if (values.IsUndefined()) return ids;
  if (ends.IsUndefined()) {
    ids.kind = ItemIds::Kind::kIntegers;
    ids.integers = span_of(read_f64_array(values, "ids"));
  } else {
    ids.kind = ItemIds::Kind::kText;
    ids.text = span_of(read_u8_array(values, "ids"));
    ids.ends = span_of(read_u32_array(ends, "ends"));
  }
  const size_t count = ids.kind == ItemIds::Kind::kText ? ids.ends.size() : ids.integers.size();
  if (count < ids.size) throw invalid_argument("ids", std::to_string(ids.size) + " ids", std::to_string(count));
  return ids;
}

}  // namespace

// (ids, ends, size, rows, scores, order, reranked, count) -> string | undefined. Single arguments, for an object costs
// more to read than the JSON to write.
Napi::Value items_json(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const ItemIds ids = read_ids(call[0], call[1], call[2]);
    ItemHits hits;
    hits.rows = span_of(read_u32_array(call[3], "rows"));
    hits.scores = span_of(read_f32_array(call[4], "scores"));
    if (!call[5].IsUndefined()) hits.order = span_of(read_u32_array(call[5], "order"));
    if (!call[6].IsUndefined()) hits.reranked = span_of(read_f32_array(call[6], "reranked"));
    const size_t rows = hits.rows.size();
    const auto check = [rows](size_t length, const char* field) {
      if (length != rows) throw invalid_argument(field, std::to_string(rows) + " values", std::to_string(length));
    };
    check(hits.scores.size(), "scores");
    if (!hits.order.empty()) check(hits.order.size(), "order");
    if (!hits.reranked.empty()) check(hits.reranked.size(), "reranked");
    const auto count = static_cast<uint32_t>(std::min<uint64_t>(rows, read_integer(call[7], "count", 0, kRowsMax)));
    thread_local std::string text;
    const bool is_written = belfry::items_json(ids, hits, count, text);
    const Napi::Value made = is_written ? Napi::String::New(call.Env(), text) : call.Env().Undefined();
    if (text.capacity() > kKeptBytes) std::string().swap(text);
    return made;
  });
}

}  // namespace belfry::binding
