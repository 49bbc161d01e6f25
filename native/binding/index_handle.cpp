#include <algorithm>
#include <chrono>
#include <cstring>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "binding/addon_state.hpp"
#include "binding/arguments.hpp"
#include "binding/filter_handles.hpp"
#include "binding/handles.hpp"
#include "binding/promise_worker.hpp"

namespace belfry::binding {

namespace {

constexpr size_t kQueryValuesMax = size_t{4} << 20;  // copied on the JS thread
constexpr size_t kHitsMax = size_t{16} << 20;
constexpr size_t kExcludedMax = kSyncValuesMax;  // likewise
constexpr double kStopMax = 1000;
// A walk on the JS thread stays well below 1 ms: about 300 ns a row of the pool, in which excluded rows have places of
// their own, and the copy of the answer.
constexpr uint32_t kSyncEfMax = 1024;

// A search as plain data: nothing of JS is touched off the JS thread.
struct SearchRequest {
  std::vector<float> queries;
  size_t count = 0;
  SearchParams params;
  std::vector<uint8_t> filter_bytes;         // empty: none
  std::shared_ptr<const RowFilter> filter;   // null: none
  std::shared_ptr<const RowFilter> visible;  // null: every row
  std::vector<uint32_t> exclude;
  std::vector<uint32_t> exclude_offsets, exclude_rows;
};

SearchMode read_mode(const Napi::Value& value) {
  if (value.IsString()) {
    const std::string text = value.As<Napi::String>().Utf8Value();
    if (text == "codes") return SearchMode::kCodes;
    if (text == "exact") return SearchMode::kExact;
    if (text == "f32") return SearchMode::kF32;
    if (text == "probe") return SearchMode::kProbe;
    if (text == "walk") return SearchMode::kWalk;
  }
  throw invalid_argument("mode", "\"codes\", \"exact\", \"f32\", \"probe\" or \"walk\"", show(value));
}

float read_stop(const Napi::Value& value, float otherwise) {
  if (value.IsUndefined()) return otherwise;
  const double stop = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : 0;
  if (!(stop >= 1 && stop <= kStopMax)) throw invalid_argument("stop", "a number from 1 to 1000", show(value));
  return static_cast<float>(stop);
}

std::vector<uint32_t> copy_rows(const Napi::Value& value, const char* field) {
  const Napi::Uint32Array rows = read_u32_array(value, field);
  if (rows.ElementLength() > kExcludedMax) {
    throw invalid_argument(field, "at most " + std::to_string(kExcludedMax) + " rows in one call",
                           std::to_string(rows.ElementLength()));
  }
  return {rows.Data(), rows.Data() + rows.ElementLength()};
}

Napi::Float32Array read_query(const Napi::Value& value, const ExactIndex& index) {
  const Napi::Float32Array query = read_f32_array(value, "query");
  if (query.ElementLength() != index.dims()) {
    throw Error(codes::kDimsMismatch,
                "query: expected " + std::to_string(index.dims()) + " values (the dims of the index), received " +
                    std::to_string(query.ElementLength()),
                "query");
  }
  return query;
}

SearchRequest read_request(const Napi::Object& options, const ExactIndex& index) {
  SearchRequest request;
  const Napi::Float32Array queries = read_f32_array(options.Get("queries"), "queries");
  const size_t values = queries.ElementLength();
  if (values % index.dims() != 0) {
    throw Error(codes::kDimsMismatch,
                "queries: expected a multiple of " + std::to_string(index.dims()) +
                    " values (the dims of the index), "
                    "received " +
                    std::to_string(values),
                "queries");
  }
  if (values > kQueryValuesMax) {
    throw invalid_argument("queries", "at most " + std::to_string(kQueryValuesMax) + " values in one call",
                           std::to_string(values));
  }
  request.count = values / index.dims();
  request.params.k = static_cast<uint32_t>(read_integer(options.Get("k"), "k", 1, kKMax));
  if (request.count * request.params.k > kHitsMax) {
    throw invalid_argument("k", "at most " + std::to_string(kHitsMax) + " hits (queries x k) in one call",
                           std::to_string(request.count * request.params.k));
  }
  request.params.mode = read_mode(options.Get("mode"));
  const uint32_t enough = std::max<uint32_t>(3 * request.params.k, 30);
  request.params.rescore = static_cast<uint32_t>(
      read_optional_integer(options, "rescore", request.params.k, 10 * uint64_t{kKMax}).value_or(enough));

  if (request.params.mode == SearchMode::kProbe && index.graph() != nullptr) {  // without one, the search says so
    request.params.probes =
        static_cast<uint32_t>(read_integer(options.Get("probes"), "probes", 1, index.graph()->partitions()));
  }
  if (request.params.mode == SearchMode::kWalk) {
    request.params.ef = static_cast<uint32_t>(
        read_optional_integer(options, "ef", request.params.k, kEfMax).value_or(std::max(request.params.k, 64U)));
    request.params.stop = read_stop(options.Get("stop"), request.params.stop);
    request.params.stop_rank = static_cast<uint32_t>(
        read_optional_integer(options, "stopRank", request.params.k, request.params.ef).value_or(request.params.k));
  }

  const Napi::Value filter = options.Get("filter");
  if (FilterHandle::is_one(filter)) {
    request.filter = FilterHandle::unwrap_checked(filter, "filter", index.rows());
  } else if (!filter.IsUndefined()) {
    const Napi::Uint8Array bytes = read_u8_array(filter, "filter");
    const size_t expected = (size_t{index.rows()} + 7) / 8;
    if (bytes.ElementLength() != expected) {
      throw invalid_argument("filter", std::to_string(expected) + " bytes, one bit per row",
                             std::to_string(bytes.ElementLength()));
    }
    request.filter_bytes.assign(bytes.Data(), bytes.Data() + expected);
  }
  const Napi::Value visible = options.Get("visible");
  if (!visible.IsUndefined()) request.visible = FilterHandle::unwrap_checked(visible, "visible", index.rows());
  const Napi::Value exclude = options.Get("exclude");
  if (!exclude.IsUndefined()) request.exclude = copy_rows(exclude, "exclude");
  const Napi::Value each = options.Get("excludeEach");
  if (!each.IsUndefined()) {
    if (!each.IsObject()) throw invalid_argument("excludeEach", "an object of offsets and rows", show(each));
    request.exclude_offsets = copy_rows(each.As<Napi::Object>().Get("offsets"), "excludeEach.offsets");
    request.exclude_rows = copy_rows(each.As<Napi::Object>().Get("rows"), "excludeEach.rows");
    if (request.exclude_offsets.size() != request.count + 1) {
      throw invalid_argument("excludeEach.offsets",
                             std::to_string(request.count + 1) + " numbers (one more than queries)",
                             std::to_string(request.exclude_offsets.size()));
    }
  }
  // Last, so that nothing is copied for a request that is refused. Looked up again: reading an option may have run code
  // of the caller, which may have resized or detached the buffer.
  const Napi::Float32Array now(options.Env(), queries);
  if (now.ElementLength() != values) {
    throw invalid_argument("queries", "an array that keeps its " + std::to_string(values) + " values",
                           std::to_string(now.ElementLength()));
  }
  request.queries.assign(now.Data(), now.Data() + values);
  return request;
}

Hits run_search(const ExactIndex& index, SearchRequest& request) {
  SearchParams params = request.params;
  const std::shared_ptr<const RowFilter> filter =
      request.filter_bytes.empty()
          ? std::move(request.filter)
          : std::make_shared<const RowFilter>(RowFilter::from_bytes(index.rows(), request.filter_bytes.data()));
  params.filter = filter.get();
  const Exclusions exclusions(std::move(request.exclude), request.exclude_offsets, std::move(request.exclude_rows),
                              request.count, index.rows(), std::move(request.visible));
  if (!exclusions.empty()) params.exclusions = &exclusions;
  return index.search(request.queries.data(), request.count, params);
}

// A short answer's three arrays are views of one buffer: making a buffer, and collecting it, costs more than filling
// it.
struct HitArrays {
  Napi::Uint32Array rows;
  Napi::Float32Array scores;
  Napi::Uint32Array counts;
};

HitArrays hit_arrays(Napi::Env env, Hits&& hits) {
  constexpr size_t kShort = 4096;
  const size_t found = hits.rows.size();
  if (hits.scores.size() != found || found > kShort) {
    return {hand_over<Napi::Uint32Array>(env, std::move(hits.rows)),
            hand_over<Napi::Float32Array>(env, std::move(hits.scores)),
            hand_over<Napi::Uint32Array>(env, std::move(hits.counts))};
  }
  const size_t row_bytes = found * sizeof(uint32_t);
  const size_t score_bytes = found * sizeof(float);
  const size_t count_bytes = hits.counts.size() * sizeof(uint32_t);
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, row_bytes + score_bytes + count_bytes);
  auto* data = static_cast<uint8_t*>(buffer.Data());
  if (row_bytes > 0) std::memcpy(data, hits.rows.data(), row_bytes);
  if (score_bytes > 0) std::memcpy(data + row_bytes, hits.scores.data(), score_bytes);
  if (count_bytes > 0) std::memcpy(data + row_bytes + score_bytes, hits.counts.data(), count_bytes);
  return {Napi::Uint32Array::New(env, found, buffer, 0), Napi::Float32Array::New(env, found, buffer, row_bytes),
          Napi::Uint32Array::New(env, hits.counts.size(), buffer, row_bytes + score_bytes)};
}

Napi::Value answer(Napi::Env env, Hits&& hits, double queue_ms, double run_ms) {
  const HitArrays arrays = hit_arrays(env, std::move(hits));
  const Napi::Value values[] = {arrays.rows,
                                arrays.scores,
                                arrays.counts,
                                Napi::Number::New(env, static_cast<double>(hits.path)),
                                Napi::Number::New(env, static_cast<double>(hits.scored)),
                                Napi::Number::New(env, static_cast<double>(hits.expanded)),
                                Napi::Number::New(env, hits.fallbacks),
                                Napi::Number::New(env, queue_ms),
                                Napi::Number::New(env, run_ms)};
  napi_value arguments[std::size(values)];
  std::copy(std::begin(values), std::end(values), std::begin(arguments));
  // The plain call: in an environment that is being terminated it fails, and node-addon-api would end the process over
  // it. Nobody waits for the answer then.
  napi_value made = nullptr;
  const Napi::Function make = AddonState::of(env).make_hits.Value();
  if (napi_call_function(env, env.Undefined(), make, std::size(values), arguments, &made) != napi_ok) {
    return env.Undefined();
  }
  return Napi::Value(env, made);
}

class SearchWorker final : public PromiseWorker {
 public:
  SearchWorker(Napi::Env env, std::shared_ptr<const ExactIndex> index, SearchRequest request)
      : PromiseWorker(env), index_(std::move(index)), request_(std::move(request)) {}

 protected:
  void execute() override {
    // Closed in the meantime, the index is freed here and not on the JS thread.
    const std::shared_ptr<const ExactIndex> index = std::move(index_);
    hits_ = run_search(*index, request_);
  }
  Napi::Value result(Napi::Env env) override { return answer(env, std::move(hits_), queue_ms(), run_ms()); }

 private:
  std::shared_ptr<const ExactIndex> index_;
  SearchRequest request_;
  Hits hits_;
};

class ReachWorker final : public PromiseWorker {
 public:
  ReachWorker(Napi::Env env, std::shared_ptr<const ExactIndex> index) : PromiseWorker(env), index_(std::move(index)) {}

 protected:
  void execute() override {
    if (index_->graph() == nullptr) return;
    rows_ = unreachable_rows(index_->graph()->graph());
    for (uint32_t& row : rows_) row = index_->row_order().external(row);
    std::sort(rows_.begin(), rows_.end());
  }
  Napi::Value result(Napi::Env env) override { return hand_over<Napi::Uint32Array>(env, std::move(rows_)); }

 private:
  std::shared_ptr<const ExactIndex> index_;
  std::vector<uint32_t> rows_;
};

}  // namespace

Napi::Function IndexHandle::define(Napi::Env env) {
  return DefineClass(
      env, kName,
      {InstanceAccessor<&IndexHandle::info>("info"), InstanceMethod<&IndexHandle::search>("search"),
       InstanceMethod<&IndexHandle::walk>("walk"), InstanceMethod<&IndexHandle::score_rows>("scoreRows"),
       InstanceMethod<&IndexHandle::unreachable>("unreachable"), InstanceMethod<&IndexHandle::close>("close")});
}

Napi::Value IndexHandle::info(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const ExactIndex& index = *held();
    Napi::Object info = Napi::Object::New(call.Env());
    info.Set("rows", index.rows());
    info.Set("dims", index.dims());
    info.Set("metric", metric_name(index.metric()));
    info.Set("kernel", index.kernel_name());
    info.Set("threads", static_cast<double>(index.threads()));
    info.Set("codeBytes", static_cast<double>(index.code_bytes()));
    if (index.graph() != nullptr) {
      Napi::Object graph = Napi::Object::New(call.Env());
      graph.Set("degree", index.graph()->graph().degree);
      graph.Set("entries", static_cast<double>(index.graph()->graph().entries.size()));
      graph.Set("partitions", index.graph()->partitions());
      graph.Set("queryEdges", index.graph()->graph().query_edges);
      graph.Set("bytes", static_cast<double>(index.graph()->bytes()));
      info.Set("graph", graph);
    }
    return info;
  });
}

Napi::Value IndexHandle::search(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] {
    const std::shared_ptr<const ExactIndex> index = held();  // an option's getter may close the handle
    return std::make_shared<SearchWorker>(call.Env(), index, read_request(read_object(call, 0, "options"), *index));
  });
}

Napi::Value IndexHandle::unreachable(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] { return std::make_shared<ReachWorker>(call.Env(), held()); });
}

// Arguments one by one, not an object of them: to look up a dozen properties takes as long as to score a hundred rows.
Napi::Value IndexHandle::walk(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const ExactIndex& index = *held();
    const auto integer = [&](size_t at, const char* field, uint32_t min, uint32_t max, uint32_t otherwise) {
      return call[at].IsUndefined() ? otherwise : static_cast<uint32_t>(read_integer(call[at], field, min, max));
    };
    SearchRequest request;
    const Napi::Float32Array query = read_query(call[0], index);
    request.queries.assign(query.Data(), query.Data() + query.ElementLength());
    request.count = 1;
    SearchParams& params = request.params;
    params.mode = SearchMode::kWalk;
    params.k = static_cast<uint32_t>(read_integer(call[1], "k", 1, kSyncEfMax));
    params.ef = integer(2, "ef", params.k, kSyncEfMax, std::max(params.k, 64U));
    params.stop = read_stop(call[3], params.stop);
    params.stop_rank = integer(4, "stopRank", params.k, params.ef, params.k);
    params.rescore = integer(5, "rescore", params.k, 10 * kKMax, std::max(3 * params.k, 30U));
    if (!call[6].IsUndefined()) request.exclude = copy_rows(call[6], "exclude");
    if (!call[7].IsUndefined()) request.visible = FilterHandle::unwrap_checked(call[7], "visible", index.rows());
    // More than that, and the millisecond is gone: on long rescoring, on sorting exclusions, on a scan of a tiny index.
    if (params.ef + request.exclude.size() > kSyncEfMax || params.rescore > kSyncEfMax ||
        params.rescore >= index.rows()) {
      return call.Env().Undefined();
    }
    params.fall_back = false;  // a scan may take longer than the JS thread may wait
    const auto started = std::chrono::steady_clock::now();
    Hits hits = run_search(index, request);
    if (hits.fallbacks > 0) return call.Env().Undefined();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - started;
    return answer(call.Env(), std::move(hits), 0, took.count());
  });
}

Napi::Value IndexHandle::score_rows(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const ExactIndex& index = *held();
    const Napi::Float32Array query = read_query(call[0], index);
    const Napi::Uint32Array rows = read_u32_array(call[1], "rows");
    const size_t limit = std::min(kSyncRowsMax, kSyncValuesMax / index.dims());
    if (rows.ElementLength() > limit) {
      throw invalid_argument(
          "rows", "at most " + std::to_string(limit) + " rows of " + std::to_string(index.dims()) + " dims in one call",
          std::to_string(rows.ElementLength()));
    }
    return hand_over<Napi::Float32Array>(call.Env(), index.score(query.Data(), {rows.Data(), rows.ElementLength()}));
  });
}

Napi::Value IndexHandle::close(const Napi::CallbackInfo& call) {
  release();
  return call.Env().Undefined();
}

}  // namespace belfry::binding
