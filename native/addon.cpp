// Module init and exports only; src/ann/addon.ts is the other side.
#include "binding/exports.hpp"

static Napi::Object init(Napi::Env env, Napi::Object exports) { return belfry::binding::define_exports(env, exports); }

NODE_API_MODULE(belfry, init)
