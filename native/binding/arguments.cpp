#include "binding/arguments.hpp"

#include <cmath>

#include "core/error.hpp"
#include "kernels/cpu.hpp"

namespace belfry::binding {

std::string show(const Napi::Value& value) {
  if (value.IsUndefined()) return "undefined";
  if (value.IsNull()) return "null";
  if (value.IsString()) return "\"" + value.As<Napi::String>().Utf8Value().substr(0, 60) + "\"";
  if (value.IsNumber() || value.IsBoolean()) return value.ToString().Utf8Value();
  if (value.IsTypedArray()) return "another typed array";
  if (value.IsArray()) return "an array";
  if (value.IsFunction()) return "a function";
  return value.IsObject() ? "an object" : "another type";
}

Napi::Object read_object(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (info.Length() <= index || !info[index].IsObject()) {
    throw invalid_argument(name, "an object", info.Length() <= index ? "nothing" : show(info[index]));
  }
  return info[index].As<Napi::Object>();
}

std::string read_string(const Napi::Value& value, const char* field) {
  if (!value.IsString()) throw invalid_argument(field, "a string", show(value));
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.empty() || text.find('\0') != std::string::npos) {
    throw invalid_argument(field, "a string that is not empty and holds no NUL", show(value));
  }
  return text;
}

uint64_t read_integer(const Napi::Value& value, const char* field, uint64_t min, uint64_t max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) || number != std::floor(number)) {
    throw invalid_argument(field, "an integer from " + std::to_string(min) + " to " + std::to_string(max), show(value));
  }
  return static_cast<uint64_t>(number);
}

std::optional<uint64_t> read_optional_integer(const Napi::Object& options, const char* field, uint64_t min,
                                              uint64_t max) {
  const Napi::Value value = options.Get(field);
  if (value.IsUndefined()) return std::nullopt;
  return read_integer(value, field, min, max);
}

bool read_optional_flag(const Napi::Object& options, const char* field) {
  const Napi::Value value = options.Get(field);
  if (value.IsUndefined()) return false;
  if (!value.IsBoolean()) throw invalid_argument(field, "true or false", show(value));
  return value.As<Napi::Boolean>().Value();
}

namespace {

template <class Array>
Array read_array(const Napi::Value& value, const char* field, napi_typedarray_type type, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    throw invalid_argument(field, name, show(value));
  }
  return value.As<Array>();
}

}  // namespace

Napi::Float32Array read_f32_array(const Napi::Value& value, const char* field) {
  return read_array<Napi::Float32Array>(value, field, napi_float32_array, "a Float32Array");
}
Napi::Uint32Array read_u32_array(const Napi::Value& value, const char* field) {
  return read_array<Napi::Uint32Array>(value, field, napi_uint32_array, "a Uint32Array");
}
Napi::Float64Array read_f64_array(const Napi::Value& value, const char* field) {
  return read_array<Napi::Float64Array>(value, field, napi_float64_array, "a Float64Array");
}
Napi::Int32Array read_i32_array(const Napi::Value& value, const char* field) {
  return read_array<Napi::Int32Array>(value, field, napi_int32_array, "an Int32Array");
}
Napi::Uint8Array read_u8_array(const Napi::Value& value, const char* field) {
  return read_array<Napi::Uint8Array>(value, field, napi_uint8_array, "a Uint8Array");
}

const char* metric_name(Metric metric) {
  switch (metric) {
    case Metric::kIp: return "ip";
    case Metric::kCosine: return "cosine";
    case Metric::kL2: return "l2";
  }
  return "ip";
}

Metric read_metric(const Napi::Value& value, const char* field) {
  if (value.IsString()) {
    const std::string text = value.As<Napi::String>().Utf8Value();
    for (const Metric metric : {Metric::kIp, Metric::kCosine, Metric::kL2}) {
      if (text == metric_name(metric)) return metric;
    }
  }
  throw invalid_argument(field, "\"ip\", \"cosine\" or \"l2\"", show(value));
}

const KernelTable& read_kernel(const Napi::Value& value, const char* field) {
  const auto& tables = available_kernels();
  if (value.IsUndefined()) return *tables.front();
  std::string names;
  const std::string wanted = value.IsString() ? value.As<Napi::String>().Utf8Value() : std::string();
  for (const KernelTable* table : tables) {
    if (wanted == table->name) return *table;
    names += (names.empty() ? "" : ", ") + std::string(table->name);
  }
  throw invalid_argument(field, "a kernel set of this CPU (" + names + ")", show(value));
}

}  // namespace belfry::binding
