#pragma once

#include "binding/napi_setup.hpp"

namespace belfry::binding {

Napi::Object define_exports(Napi::Env env, Napi::Object exports);
Napi::Value choose_diverse_of(const Napi::CallbackInfo& call);
Napi::Value copy_rows_of(const Napi::CallbackInfo& call);
Napi::Value items_json(const Napi::CallbackInfo& call);

}  // namespace belfry::binding
