#pragma once

#include "binding/napi_setup.hpp"

namespace belfry::binding {

Napi::Object define_exports(Napi::Env env, Napi::Object exports);

}  // namespace belfry::binding
