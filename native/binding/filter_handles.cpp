#include "binding/filter_handles.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "binding/addon_state.hpp"
#include "binding/arguments.hpp"
#include "binding/promise_worker.hpp"
#include "core/thread_pool.hpp"
#include "filter/filter_program.hpp"

namespace belfry::binding {

namespace {

using Time = std::chrono::steady_clock::time_point;

constexpr size_t kStepsMax = 4096;    // a request holds 256 clauses, each of which takes eight at the most
constexpr size_t kColumnsMax = 2000;  // as many as a table may have
constexpr uint64_t kEntriesMax = std::numeric_limits<uint32_t>::max();
constexpr double kDeadlineMsMax = 1e9;

ColumnKind read_kind(const Napi::Value& value) {
  if (value.IsString()) {
    const std::string text = value.As<Napi::String>().Utf8Value();
    if (text == "number") return ColumnKind::kNumber;
    if (text == "boolean") return ColumnKind::kBoolean;
    if (text == "string") return ColumnKind::kString;
    if (text == "string_list") return ColumnKind::kStringList;
    if (text == "number_list") return ColumnKind::kNumberList;
  }
  throw invalid_argument("kind", "number, boolean, string, string_list or number_list", show(value));
}

// Room for a column; large memory is made on the pool.
class CreateColumnWorker final : public PromiseWorker {
 public:
  CreateColumnWorker(Napi::Env env, ColumnKind kind, uint32_t rows, size_t entries, uint32_t words)
      : PromiseWorker(env), under_way_(std::make_shared<ColumnUnderWay>()), entries_(entries) {
    under_way_->data.kind = kind;
    under_way_->data.rows = rows;
    under_way_->data.words = words;
  }

 protected:
  void execute() override {
    ColumnData& data = under_way_->data;
    switch (data.kind) {
      case ColumnKind::kNumber: data.numbers.resize(data.rows); return;
      case ColumnKind::kBoolean: data.flags.resize(data.rows); return;
      case ColumnKind::kString: data.codes.resize(data.rows); return;
      case ColumnKind::kStringList: data.codes.resize(entries_); break;
      case ColumnKind::kNumberList: data.numbers.resize(entries_); break;
    }
    data.offsets.resize(size_t{data.rows} + 1);
  }
  Napi::Value result(Napi::Env env) override {
    return ColumnBuilderHandle::make(env, AddonState::of(env).column_builder_class, std::move(under_way_));
  }

 private:
  std::shared_ptr<ColumnUnderWay> under_way_;
  size_t entries_;
};

class FinishColumnWorker final : public PromiseWorker {
 public:
  FinishColumnWorker(Napi::Env env, std::shared_ptr<ColumnUnderWay> under_way)
      : PromiseWorker(env), under_way_(std::move(under_way)) {}

 protected:
  void execute() override {
    column_ = std::make_shared<const Column>(std::move(under_way_->data));
    under_way_.reset();
  }
  Napi::Value result(Napi::Env env) override {
    return ColumnHandle::make(env, AddonState::of(env).column_class, std::move(column_));
  }

 private:
  std::shared_ptr<ColumnUnderWay> under_way_;
  std::shared_ptr<const Column> column_;
};

class EvaluateWorker final : public PromiseWorker {
 public:
  EvaluateWorker(Napi::Env env, FilterProgram program, std::vector<std::shared_ptr<const Column>> columns,
                 uint32_t rows, size_t threads, Time deadline)
      : PromiseWorker(env),
        program_(std::move(program)),
        columns_(std::move(columns)),
        rows_(rows),
        threads_(threads),
        deadline_(deadline) {}

 protected:
  void execute() override {
    const std::vector<std::shared_ptr<const Column>> columns = std::move(columns_);  // freed here if closed meanwhile
    filter_ = evaluate_filter(std::move(program_), columns, rows_, threads_, deadline_);
  }
  Napi::Value result(Napi::Env env) override {
    return FilterHandle::make(env, AddonState::of(env).filter_class, std::move(filter_));
  }

 private:
  FilterProgram program_;
  std::vector<std::shared_ptr<const Column>> columns_;
  uint32_t rows_;
  size_t threads_;
  Time deadline_;
  std::shared_ptr<const RowFilter> filter_;
};

// The values of one part, behind those that are there.
template <class Element>
void append_values(std::vector<Element>& values, size_t& filled, const Element* part, size_t count) {
  const size_t limit = std::min(kSyncValuesMax, values.size() - filled);
  if (count > limit) {
    throw invalid_argument("values", "at most " + std::to_string(limit) + " more values", std::to_string(count));
  }
  if (count > 0) std::memcpy(values.data() + filled, part, count * sizeof(Element));
  filled += count;
}

FilterProgram read_program(const Napi::Value& value) {
  if (!value.IsObject()) throw invalid_argument("program", "an object of steps, codes and numbers", show(value));
  const auto object = value.As<Napi::Object>();
  const Napi::Uint32Array steps = read_u32_array(object.Get("steps"), "program.steps");
  const Napi::Uint32Array words = read_u32_array(object.Get("codes"), "program.codes");
  const Napi::Float64Array numbers = read_f64_array(object.Get("numbers"), "program.numbers");
  const size_t count = steps.ElementLength();
  if (count == 0 || count % 4 != 0 || count > 4 * kStepsMax) {
    throw invalid_argument("program.steps", "1 to " + std::to_string(kStepsMax) + " steps of four numbers",
                           std::to_string(count) + " numbers");
  }
  for (const size_t length : {words.ElementLength(), numbers.ElementLength()}) {
    if (length > kSyncValuesMax) {
      throw invalid_argument("program", "at most " + std::to_string(kSyncValuesMax) + " codes and as many numbers",
                             std::to_string(length));
    }
  }
  FilterProgram program;
  program.steps.reserve(count / 4);
  for (const uint32_t* step = steps.Data(); step != steps.Data() + count; step += 4) {
    program.steps.push_back({static_cast<FilterOp>(step[0]), step[1], step[2], step[3]});
  }
  program.codes.assign(words.Data(), words.Data() + words.ElementLength());
  program.numbers.assign(numbers.Data(), numbers.Data() + numbers.ElementLength());
  return program;
}

// `deadlineMs` from now; undefined and Infinity are none.
Time read_deadline(const Napi::Value& value) {
  if (value.IsUndefined()) return Time::max();
  const double ms = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (std::isnan(ms)) throw invalid_argument("deadlineMs", "a number of milliseconds", show(value));
  if (ms > kDeadlineMsMax) return Time::max();
  return std::chrono::steady_clock::now() + std::chrono::microseconds(static_cast<int64_t>(std::max(0.0, ms) * 1000));
}

}  // namespace

Napi::Value create_column(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] {
    const Napi::Object options = read_object(call, 0, "options");
    const ColumnKind kind = read_kind(options.Get("kind"));
    const auto rows = static_cast<uint32_t>(read_integer(options.Get("rows"), "rows", 0, kRowsMax));
    const size_t entries = read_optional_integer(options, "entries", 0, kEntriesMax).value_or(0);
    const auto words = static_cast<uint32_t>(
        read_optional_integer(options, "words", 0, std::numeric_limits<int32_t>::max()).value_or(0));
    return std::make_shared<CreateColumnWorker>(call.Env(), kind, rows, entries, words);
  });
}

Napi::Value evaluate_filter_of(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] {
    const Napi::Object options = read_object(call, 0, "options");
    const auto rows = static_cast<uint32_t>(read_integer(options.Get("rows"), "rows", 0, kRowsMax));
    const Napi::Value list = options.Get("columns");
    if (!list.IsArray() || list.As<Napi::Array>().Length() > kColumnsMax) {
      throw invalid_argument("columns", "an array of at most " + std::to_string(kColumnsMax) + " columns", show(list));
    }
    std::vector<std::shared_ptr<const Column>> columns;
    for (uint32_t i = 0; i < list.As<Napi::Array>().Length(); ++i) {
      columns.push_back(ColumnHandle::unwrap_checked(list.As<Napi::Array>().Get(i), "columns"));
    }
    const size_t threads = read_optional_integer(options, "threads", 1, 1024).value_or(ThreadPool::cpu_count());
    const Time deadline = read_deadline(options.Get("deadlineMs"));
    return std::make_shared<EvaluateWorker>(call.Env(), read_program(options.Get("program")), std::move(columns), rows,
                                            threads, deadline);
  });
}

// A filter from a bitmap that the caller has; a bit a row, so even ten million rows are copied in tenths of a
// millisecond.
Napi::Value create_filter(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const Napi::Object options = read_object(call, 0, "options");
    const auto rows = static_cast<size_t>(read_integer(options.Get("rows"), "rows", 0, kRowsMax));
    const Napi::Uint8Array bytes = read_u8_array(options.Get("bytes"), "bytes");
    if (bytes.ElementLength() != (rows + 7) / 8) {
      throw invalid_argument("bytes", std::to_string((rows + 7) / 8) + " bytes, one bit per row",
                             std::to_string(bytes.ElementLength()));
    }
    return FilterHandle::make(call.Env(), AddonState::of(call.Env()).filter_class,
                              std::make_shared<const RowFilter>(RowFilter::from_bytes(rows, bytes.Data())));
  });
}

Napi::Function ColumnHandle::define(Napi::Env env) {
  return DefineClass(env, kName,
                     {InstanceAccessor<&ColumnHandle::rows>("rows"), InstanceAccessor<&ColumnHandle::bytes>("bytes"),
                      InstanceMethod<&ColumnHandle::close>("close")});
}

std::shared_ptr<const Column> ColumnHandle::unwrap_checked(const Napi::Value& value, const char* field) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag)) {
    throw invalid_argument(field, "NativeColumns", show(value));
  }
  return Unwrap(value.As<Napi::Object>())->held();
}

Napi::Value ColumnHandle::rows(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value { return Napi::Number::New(call.Env(), held()->rows()); });
}
Napi::Value ColumnHandle::bytes(const Napi::CallbackInfo& call) {
  return guarded(call.Env(),
                 [&]() -> Napi::Value { return Napi::Number::New(call.Env(), static_cast<double>(held()->bytes())); });
}
Napi::Value ColumnHandle::close(const Napi::CallbackInfo& call) {
  release();
  return call.Env().Undefined();
}

Napi::Function ColumnBuilderHandle::define(Napi::Env env) {
  return DefineClass(env, kName,
                     {InstanceMethod<&ColumnBuilderHandle::append>("append"),
                      InstanceMethod<&ColumnBuilderHandle::append_offsets>("appendOffsets"),
                      InstanceMethod<&ColumnBuilderHandle::finish>("finish")});
}

Napi::Value ColumnBuilderHandle::append(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    ColumnUnderWay& column = *held();
    switch (column.data.kind) {
      case ColumnKind::kNumber:
      case ColumnKind::kNumberList: {
        const Napi::Float64Array part = read_f64_array(call[0], "values");
        append_values(column.data.numbers, column.filled, part.Data(), part.ElementLength());
        break;
      }
      case ColumnKind::kBoolean: {
        const Napi::Uint8Array part = read_u8_array(call[0], "values");
        append_values(column.data.flags, column.filled, part.Data(), part.ElementLength());
        break;
      }
      case ColumnKind::kString:
      case ColumnKind::kStringList: {
        const Napi::Int32Array part = read_i32_array(call[0], "values");
        append_values(column.data.codes, column.filled, part.Data(), part.ElementLength());
        break;
      }
    }
    return call.Env().Undefined();
  });
}

Napi::Value ColumnBuilderHandle::append_offsets(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    ColumnUnderWay& column = *held();
    const Napi::Uint32Array part = read_u32_array(call[0], "values");
    append_values(column.data.offsets, column.offsets_filled, part.Data(), part.ElementLength());
    return call.Env().Undefined();
  });
}

Napi::Value ColumnBuilderHandle::finish(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] {
    const std::shared_ptr<ColumnUnderWay> column = held();
    const ColumnData& data = column->data;
    const size_t expected = data.numbers.size() + data.flags.size() + data.codes.size();  // two of them are empty
    if (column->filled != expected || column->offsets_filled != data.offsets.size()) {
      throw invalid_argument(
          "finish", std::to_string(expected) + " values and " + std::to_string(data.offsets.size()) + " offsets",
          std::to_string(column->filled) + " and " + std::to_string(column->offsets_filled));
    }
    release();
    return std::make_shared<FinishColumnWorker>(call.Env(), column);
  });
}

Napi::Function FilterHandle::define(Napi::Env env) {
  return DefineClass(env, kName,
                     {InstanceAccessor<&FilterHandle::count>("count"), InstanceAccessor<&FilterHandle::rows>("rows"),
                      InstanceMethod<&FilterHandle::to_bytes>("toBytes"),
                      InstanceMethod<&FilterHandle::allows>("allows"), InstanceMethod<&FilterHandle::close>("close")});
}

FilterHandle::FilterHandle(const Napi::CallbackInfo& info) : Handle(info) {
  told_bytes_ = static_cast<int64_t>(held()->rows() / 8);
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), told_bytes_);
}

void FilterHandle::forget_bytes() {
  if (told_bytes_ == 0) return;
  Napi::MemoryManagement::AdjustExternalMemory(Env(), -told_bytes_);
  told_bytes_ = 0;
}

bool FilterHandle::is_one(const Napi::Value& value) {
  return value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag);
}

std::shared_ptr<const RowFilter> FilterHandle::unwrap_checked(const Napi::Value& value, const char* field,
                                                              size_t rows) {
  if (!is_one(value)) throw invalid_argument(field, "a NativeFilter", show(value));
  const std::shared_ptr<const RowFilter>& filter = Unwrap(value.As<Napi::Object>())->held();
  if (filter->rows() != rows) {
    throw invalid_argument(field, "a filter over " + std::to_string(rows) + " rows", std::to_string(filter->rows()));
  }
  return filter;
}

Napi::Value FilterHandle::count(const Napi::CallbackInfo& call) {
  return guarded(call.Env(),
                 [&]() -> Napi::Value { return Napi::Number::New(call.Env(), static_cast<double>(held()->count())); });
}
Napi::Value FilterHandle::rows(const Napi::CallbackInfo& call) {
  return guarded(call.Env(),
                 [&]() -> Napi::Value { return Napi::Number::New(call.Env(), static_cast<double>(held()->rows())); });
}

Napi::Value FilterHandle::to_bytes(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const RowFilter& filter = *held();
    const size_t count = (filter.rows() + 7) / 8;
    Napi::Uint8Array bytes = Napi::Uint8Array::New(call.Env(), count);
    uint8_t* out = bytes.Data();
    for (size_t i = 0; i < count; ++i) out[i] = static_cast<uint8_t>(filter.words()[i / 8] >> (8 * (i % 8)));
    return bytes;
  });
}

Napi::Value FilterHandle::allows(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const RowFilter& filter = *held();
    const Napi::Uint32Array rows = read_u32_array(call[0], "rows");
    if (rows.ElementLength() > kSyncRowsMax) {
      throw invalid_argument("rows", "at most " + std::to_string(kSyncRowsMax) + " rows in one call",
                             std::to_string(rows.ElementLength()));
    }
    Napi::Uint8Array passes = Napi::Uint8Array::New(call.Env(), rows.ElementLength());
    for (size_t i = 0; i < rows.ElementLength(); ++i) {
      const uint32_t row = rows.Data()[i];
      if (row >= filter.rows()) {
        throw invalid_argument("rows", "row numbers below " + std::to_string(filter.rows()), std::to_string(row));
      }
      passes.Data()[i] = filter.allows(row) ? 1 : 0;
    }
    return passes;
  });
}

Napi::Value FilterHandle::close(const Napi::CallbackInfo& call) {
  forget_bytes();
  release();
  return call.Env().Undefined();
}

}  // namespace belfry::binding
