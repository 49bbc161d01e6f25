#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "binding/napi_setup.hpp"
#include "core/metric.hpp"
#include "kernels/kernels.hpp"

namespace belfry::binding {

// Readers of arguments. Each throws core errors that name the field, what was expected and what came.
Napi::Object read_object(const Napi::CallbackInfo& info, size_t index, const char* name);
std::string read_string(const Napi::Value& value, const char* field);
uint64_t read_integer(const Napi::Value& value, const char* field, uint64_t min, uint64_t max);
// Empty when the property is undefined.
std::optional<uint64_t> read_optional_integer(const Napi::Object& options, const char* field, uint64_t min,
                                              uint64_t max);
// False when it is not there.
bool read_optional_flag(const Napi::Object& options, const char* field);
Napi::Float32Array read_f32_array(const Napi::Value& value, const char* field);
Napi::Uint32Array read_u32_array(const Napi::Value& value, const char* field);
Napi::Float64Array read_f64_array(const Napi::Value& value, const char* field);
Napi::Int32Array read_i32_array(const Napi::Value& value, const char* field);
Napi::Uint8Array read_u8_array(const Napi::Value& value, const char* field);
// Of an array that JS holds while it is used.
template <class Array>
auto span_of(Array array) {
  return std::span{array.Data(), array.ElementLength()};
}
Metric read_metric(const Napi::Value& value, const char* field);
const KernelTable& read_kernel(const Napi::Value& value, const char* field);

const char* metric_name(Metric metric);

// A value as shown in a message.
std::string show(const Napi::Value& value);

// Gives the vector's memory to JS: small ones are copied, large ones handed over.
template <class Array, class Element>
Array hand_over(Napi::Env env, std::vector<Element>&& elements) {
  constexpr size_t kCopyBytes = 64 * 1024;
  const size_t bytes = elements.size() * sizeof(Element);
  if (bytes > kCopyBytes) {
    auto* owned = new std::vector<Element>(std::move(elements));
    const size_t count = owned->size();
    Napi::ArrayBuffer buffer;
    try {
      buffer = Napi::ArrayBuffer::New(
          env, owned->data(), bytes, [](Napi::Env, void*, std::vector<Element>* held) { delete held; }, owned);
    } catch (const Napi::Error&) {
      elements = std::move(*owned);  // an engine without external memory (a sandbox): copy
      delete owned;
    }
    // From here on the buffer owns the memory, also when the next call fails.
    if (!buffer.IsEmpty()) return Array::New(env, count, buffer, 0);
  }
  Array array = Array::New(env, elements.size());
  if (bytes > 0) std::memcpy(array.Data(), elements.data(), bytes);
  return array;
}

}  // namespace belfry::binding
