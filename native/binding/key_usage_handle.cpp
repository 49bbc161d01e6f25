#include <limits>

#include "binding/addon_state.hpp"
#include "binding/arguments.hpp"
#include "binding/handles.hpp"

namespace belfry::binding {

namespace {

constexpr size_t kKeyLength = 10;

// The id of a key, ten letters and digits, as a number above 0.
uint64_t read_key(const Napi::Value& value) {
  // Two more than an id: what is too long must not look like one.
  char text[kKeyLength + 2] = {};
  size_t length = 0;
  if (!value.IsString() || napi_get_value_string_latin1(value.Env(), value, text, sizeof text, &length) != napi_ok ||
      length != kKeyLength) {
    throw invalid_argument("key", "an id of ten letters and digits", show(value));
  }
  uint64_t key = 1;
  for (size_t i = 0; i < kKeyLength; ++i) {
    const char c = text[i];
    const bool is_digit = c >= '0' && c <= '9';
    if (!is_digit && !(c >= 'a' && c <= 'z')) throw invalid_argument("key", "letters and digits", show(value));
    key = key * 36 + static_cast<uint64_t>(is_digit ? c - '0' : c - 'a' + 10);
  }
  return key;
}

double read_number(const Napi::Value& value, const char* field, double max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= max)) throw invalid_argument(field, "a number from 0", show(value));
  return number;
}

}  // namespace

Napi::Value open_key_usage(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const Napi::Object options = read_object(call, 0, "options");
    const Napi::Value path = options.Get("path");
    return KeyUsageHandle::make(call.Env(), AddonState::of(call.Env()).key_usage_class,
                                KeyUsage::open(path.IsUndefined() ? std::string() : read_string(path, "path")));
  });
}

Napi::Function KeyUsageHandle::define(Napi::Env env) {
  return DefineClass(env, kName,
                     {InstanceMethod<&KeyUsageHandle::take>("take"), InstanceMethod<&KeyUsageHandle::close>("close")});
}

// take(key, cost, isMore, rate, quota, debtMax, nowMs): one number, since it is asked for each request.
Napi::Value KeyUsageHandle::take(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    KeyUsage::Request request;
    const uint64_t key = read_key(call[0]);
    request.cost = read_integer(call[1], "cost", 1, std::numeric_limits<uint32_t>::max());
    request.is_more = call[2].ToBoolean();
    request.rate = read_number(call[3], "rate", 1e9);
    request.quota = read_integer(call[4], "quota", 0, 1'000'000'000'000'000);
    request.debt_max = read_integer(call[5], "debtMax", 0, std::numeric_limits<uint32_t>::max());
    const double now_ms = read_number(call[6], "nowMs", 4e12);
    request.now_ns = static_cast<int64_t>(now_ms * 1e6);
    request.day = static_cast<uint64_t>(now_ms / 86'400'000);
    const KeyUsage::Answer answer = held()->take(key, request);
    const double refused = answer.over_quota ? -1 - static_cast<double>(answer.used_today) : answer.wait_seconds;
    return Napi::Number::New(call.Env(), refused);
  });
}

Napi::Value KeyUsageHandle::close(const Napi::CallbackInfo& call) {
  release();
  return call.Env().Undefined();
}

}  // namespace belfry::binding
