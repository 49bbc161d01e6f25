#include <algorithm>
#include <cstring>
#include <vector>

#include "binding/addon_state.hpp"
#include "binding/arguments.hpp"
#include "binding/handles.hpp"

namespace belfry::binding {

Napi::Object npy_info(Napi::Env env, const std::string& path, const NpyHeader& header, uint64_t file_bytes) {
  Napi::Object info = Napi::Object::New(env);
  info.Set("path", path);
  info.Set("version", header.version);
  info.Set("dtype", header.dtype());
  info.Set("bigEndian", header.big_endian);
  info.Set("fortranOrder", header.fortran_order);
  Napi::Array shape = Napi::Array::New(env, header.shape.size());
  for (size_t i = 0; i < header.shape.size(); ++i) {
    shape.Set(static_cast<uint32_t>(i), static_cast<double>(header.shape[i]));
  }
  info.Set("shape", shape);
  info.Set("dataOffset", static_cast<double>(header.data_offset));
  info.Set("fileBytes", static_cast<double>(file_bytes));
  return info;
}

Napi::Function MatrixHandle::define(Napi::Env env) {
  return DefineClass(
      env, kName,
      {InstanceAccessor<&MatrixHandle::info>("info"), InstanceAccessor<&MatrixHandle::rows>("rows"),
       InstanceAccessor<&MatrixHandle::dims>("dims"), InstanceMethod<&MatrixHandle::read_rows>("readRows"),
       InstanceMethod<&MatrixHandle::close>("close")});
}

std::shared_ptr<Matrix> MatrixHandle::unwrap_checked(const Napi::Value& value, const char* field) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag)) {
    throw invalid_argument(field, "a NativeMatrix", show(value));
  }
  return Unwrap(value.As<Napi::Object>())->held();
}

Napi::Value MatrixHandle::info(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    return npy_info(call.Env(), held()->path(), held()->header(), held()->file_bytes());
  });
}
Napi::Value MatrixHandle::rows(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value { return Napi::Number::New(call.Env(), held()->rows()); });
}
Napi::Value MatrixHandle::dims(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value { return Napi::Number::New(call.Env(), held()->dims()); });
}

Napi::Value MatrixHandle::read_rows(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const Matrix& matrix = *held();
    const Napi::Uint32Array rows = read_u32_array(call[0], "rows");
    const size_t count = rows.ElementLength();
    const size_t limit = std::min(kSyncRowsMax, kSyncValuesMax / matrix.dims());
    if (count > limit) {
      throw invalid_argument(
          "rows",
          "at most " + std::to_string(limit) + " rows of " + std::to_string(matrix.dims()) + " dims in one call",
          std::to_string(count));
    }
    for (size_t i = 0; i < count; ++i) {
      if (rows.Data()[i] >= matrix.rows()) {
        throw invalid_argument("rows", "row numbers below " + std::to_string(matrix.rows()),
                               std::to_string(rows.Data()[i]));
      }
    }
    const bool is_given = call.Length() > 1 && !call[1].IsUndefined();
    Napi::Float32Array values =
        is_given ? read_f32_array(call[1], "into") : Napi::Float32Array::New(call.Env(), count * matrix.dims());
    if (values.ElementLength() != count * matrix.dims()) {
      throw invalid_argument("into", std::to_string(count * matrix.dims()) + " values",
                             std::to_string(values.ElementLength()));
    }
    for (size_t i = 0; i < count; ++i) matrix.read_row(rows.Data()[i], values.Data() + i * matrix.dims());
    return values;
  });
}

Napi::Value MatrixHandle::close(const Napi::CallbackInfo& call) {
  release();
  return call.Env().Undefined();
}

Napi::Function MatrixBuilderHandle::define(Napi::Env env) {
  return DefineClass(
      env, kName,
      {InstanceMethod<&MatrixBuilderHandle::append>("append"), InstanceMethod<&MatrixBuilderHandle::finish>("finish")});
}

Napi::Value MatrixBuilderHandle::append(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    MatrixUnderWay& building = *held();
    const Napi::Float32Array values = read_f32_array(call[0], "values");
    const size_t total = size_t{building.matrix->rows()} * building.matrix->dims();
    const size_t limit = std::min(kSyncValuesMax, total - building.filled);
    if (values.ElementLength() > limit) {
      throw invalid_argument("values", "at most " + std::to_string(limit) + " more values",
                             std::to_string(values.ElementLength()));
    }
    std::memcpy(building.matrix->values() + building.filled, values.Data(), values.ByteLength());
    building.filled += values.ElementLength();
    return call.Env().Undefined();
  });
}

Napi::Value MatrixBuilderHandle::finish(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const MatrixUnderWay& building = *held();
    const size_t total = size_t{building.matrix->rows()} * building.matrix->dims();
    if (building.filled != total) {
      throw invalid_argument("finish", std::to_string(total) + " values", std::to_string(building.filled));
    }
    const Napi::Object matrix =
        MatrixHandle::make(call.Env(), AddonState::of(call.Env()).matrix_class, building.matrix);
    release();
    return matrix;
  });
}

}  // namespace belfry::binding
