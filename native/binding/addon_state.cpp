#include "binding/addon_state.hpp"

#include <new>
#include <utility>

#include "binding/promise_worker.hpp"

namespace belfry::binding {

std::shared_ptr<Delivery> Delivery::create(Napi::Env env) {
  auto delivery = std::make_shared<Delivery>();
  const Napi::String name = Napi::String::New(env, "belfry");
  napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr,
                                                       delivery.get(), on_js_thread, &delivery->function_);
  NAPI_THROW_IF_FAILED(env, status, delivery);
  // Idle, it must not keep node alive.
  status = napi_unref_threadsafe_function(env, delivery->function_);
  NAPI_THROW_IF_FAILED(env, status, delivery);
  // Hooks run last-in first-out: this one before the thread-safe function's own, which frees it.
  auto* kept = new std::shared_ptr<Delivery>(delivery);
  status = napi_add_env_cleanup_hook(
      env,
      [](void* data) {
        auto* held = static_cast<std::shared_ptr<Delivery>*>(data);
        {
          std::lock_guard lock((*held)->mutex_);
          (*held)->closed_ = true;
        }
        delete held;
      },
      kept);
  NAPI_THROW_IF_FAILED(env, status, delivery);
  return delivery;
}

void Delivery::begin(Napi::Env env) {
  if (pending_++ == 0) (void)napi_ref_threadsafe_function(env, function_);
}

void Delivery::deliver(std::shared_ptr<PromiseWorker> worker) {
  std::lock_guard lock(mutex_);
  if (closed_) return;  // the environment is gone, and with it whoever waited
  auto* data = new std::shared_ptr<PromiseWorker>(std::move(worker));
  if (napi_call_threadsafe_function(function_, data, napi_tsfn_nonblocking) != napi_ok) delete data;
}

void Delivery::on_js_thread(napi_env raw_env, napi_value, void* context, void* data) {
  const std::unique_ptr<std::shared_ptr<PromiseWorker>> worker(static_cast<std::shared_ptr<PromiseWorker>*>(data));
  if (raw_env == nullptr) return;  // the environment is being torn down
  const Napi::Env env(raw_env);
  auto* delivery = static_cast<Delivery*>(context);
  if (--delivery->pending_ == 0) (void)napi_unref_threadsafe_function(raw_env, delivery->function_);
  (*worker)->settle(env);
}

Napi::Value AddonState::make_error(Napi::Env env, const Error& error) const {
  const Napi::String code = Napi::String::New(env, error.code());
  const Napi::String message = Napi::String::New(env, error.message());
  if (!error_factory_.IsEmpty()) {
    const Napi::Value field =
        error.field().empty() ? env.Undefined() : Napi::Value(Napi::String::New(env, error.field()));
    return error_factory_.Call({code, message, field});
  }
  Napi::Error plain = Napi::Error::New(env, error.message());
  plain.Value().Set("code", code);
  return plain.Value();
}

Error current_error() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(codes::kInternal, "out of memory in the native core");
  } catch (const std::exception& error) {
    return Error(codes::kInternal, std::string("native core: ") + error.what());
  } catch (...) {
    return Error(codes::kInternal, "native core: unknown exception");
  }
}

}  // namespace belfry::binding
