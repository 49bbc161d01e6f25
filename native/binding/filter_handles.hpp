#pragma once

#include <memory>

#include "binding/handles.hpp"
#include "core/row_filter.hpp"
#include "filter/column.hpp"

namespace belfry::binding {

// A metadata column in native memory.
class ColumnHandle : public Handle<ColumnHandle, const Column> {
 public:
  static constexpr const char* kName = "NativeColumn";
  static constexpr napi_type_tag kTag = {0x5b0c3f0f7a4e4d61, 0x8f8f25b3d0f3a105};
  using Handle::Handle;
  static Napi::Function define(Napi::Env env);
  static std::shared_ptr<const Column> unwrap_checked(const Napi::Value& value, const char* field);

 private:
  Napi::Value rows(const Napi::CallbackInfo& call);
  Napi::Value bytes(const Napi::CallbackInfo& call);
  Napi::Value close(const Napi::CallbackInfo& call);
};

// A column that JS fills piece by piece.
struct ColumnUnderWay {
  ColumnData data;    // vectors of their final length
  size_t filled = 0;  // values
  size_t offsets_filled = 0;
};

class ColumnBuilderHandle : public Handle<ColumnBuilderHandle, ColumnUnderWay> {
 public:
  static constexpr const char* kName = "NativeColumnBuilder";
  static constexpr napi_type_tag kTag = {0x5b0c3f0f7a4e4d61, 0x8f8f25b3d0f3a106};
  using Handle::Handle;
  static Napi::Function define(Napi::Env env);

 private:
  Napi::Value append(const Napi::CallbackInfo& call);
  Napi::Value append_offsets(const Napi::CallbackInfo& call);
  Napi::Value finish(const Napi::CallbackInfo& call);
};

// An evaluated filter: which rows pass. Its size is told to V8, so that handles nobody closed are collected in time.
class FilterHandle : public Handle<FilterHandle, const RowFilter> {
 public:
  static constexpr const char* kName = "NativeFilter";
  static constexpr napi_type_tag kTag = {0x5b0c3f0f7a4e4d61, 0x8f8f25b3d0f3a107};
  explicit FilterHandle(const Napi::CallbackInfo& info);
  ~FilterHandle() override { forget_bytes(); }
  static Napi::Function define(Napi::Env env);
  static bool is_one(const Napi::Value& value);
  // The bitmap inside; `rows` are those of the index that is to use it.
  static std::shared_ptr<const RowFilter> unwrap_checked(const Napi::Value& value, const char* field, size_t rows);

 private:
  Napi::Value count(const Napi::CallbackInfo& call);
  Napi::Value rows(const Napi::CallbackInfo& call);
  Napi::Value to_bytes(const Napi::CallbackInfo& call);
  Napi::Value allows(const Napi::CallbackInfo& call);
  Napi::Value close(const Napi::CallbackInfo& call);
  void forget_bytes();

  int64_t told_bytes_ = 0;
};

Napi::Value create_column(const Napi::CallbackInfo& call);
Napi::Value evaluate_filter_of(const Napi::CallbackInfo& call);
Napi::Value create_filter(const Napi::CallbackInfo& call);

}  // namespace belfry::binding
