#pragma once

#include <memory>
#include <mutex>

#include "binding/napi_setup.hpp"
#include "core/error.hpp"

namespace belfry::binding {

class PromiseWorker;

// The way from a pool thread back to one environment's JS thread. Pool threads hold it by shared_ptr, so it outlives
// the environment; after the environment's end it only drops what it is given.
class Delivery {
 public:
  static std::shared_ptr<Delivery> create(Napi::Env env);

  // JS thread: a promise is under way, so node must stay alive until it settles.
  void begin(Napi::Env env);
  // Any thread.
  void deliver(std::shared_ptr<PromiseWorker> worker);

 private:
  static void on_js_thread(napi_env env, napi_value callback, void* context, void* data);

  std::mutex mutex_;
  bool closed_ = false;
  napi_threadsafe_function function_ = nullptr;
  size_t pending_ = 0;  // JS thread only
};

// All state of the addon in one environment (the main thread, or one worker thread).
class AddonState {
 public:
  explicit AddonState(Napi::Env env) : delivery_(Delivery::create(env)) {}
  static AddonState& of(Napi::Env env) { return *env.GetInstanceData<AddonState>(); }

  const std::shared_ptr<Delivery>& delivery() const noexcept { return delivery_; }
  // src/ann/addon.ts hands over a function (code, message, field) => BelfryError.
  void set_error_factory(Napi::Function factory) { error_factory_ = Napi::Persistent(factory); }
  Napi::Value make_error(Napi::Env env, const Error& error) const;

  Napi::FunctionReference matrix_class, matrix_builder_class, import_class, index_class, graph_build_class;
  // (rows, scores, counts, path, scored, expanded, fallbacks, queueMs, runMs) => a search's answer. One call of a
  // function costs less than setting nine properties by name.
  Napi::FunctionReference make_hits;
  Napi::FunctionReference column_class, column_builder_class, filter_class;
  Napi::FunctionReference key_usage_class;

 private:
  std::shared_ptr<Delivery> delivery_;
  Napi::FunctionReference error_factory_;
};

// The exception in flight as a core Error; call inside a catch block only.
Error current_error() noexcept;

// Runs `body`; what it throws becomes a JS exception with a BelfryError.
template <class Body>
Napi::Value guarded(Napi::Env env, Body body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    const Napi::Value error = AddonState::of(env).make_error(env, current_error());
    NAPI_THROW(Napi::Error(env, error), Napi::Value());
  }
}

}  // namespace belfry::binding
