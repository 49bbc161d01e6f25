#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "binding/addon_state.hpp"
#include "binding/napi_setup.hpp"
#include "core/error.hpp"

namespace belfry::binding {

// A promise-returning call. A subclass holds plain copies of its arguments and writes two functions:
//   execute()  on a thread of the pool; touches nothing of JS; may throw
//   result()   on the JS thread; makes the value
class PromiseWorker {
 public:
  explicit PromiseWorker(Napi::Env env) : deferred_(Napi::Promise::Deferred::New(env)) {}
  PromiseWorker(const PromiseWorker&) = delete;
  PromiseWorker& operator=(const PromiseWorker&) = delete;
  virtual ~PromiseWorker() = default;

  // Queues the worker and returns its promise.
  static Napi::Value submit(Napi::Env env, std::shared_ptr<PromiseWorker> worker);
  // A promise that is already rejected with the exception in flight; call inside a catch block only.
  static Napi::Value rejected(Napi::Env env);

  void settle(Napi::Env env) noexcept;

 protected:
  virtual void execute() = 0;
  virtual Napi::Value result(Napi::Env env) = 0;
  // Long work beside searches: it gets a thread of its own, at low priority.
  virtual bool runs_aside() const noexcept { return false; }
  // On the JS thread, just before the promise settles, whether execute() threw or not.
  virtual void settling() noexcept {}

  double queue_ms() const noexcept { return ms(queued_, started_); }
  double run_ms() const noexcept { return ms(started_, ended_); }

 private:
  using Clock = std::chrono::steady_clock;
  static double ms(Clock::time_point from, Clock::time_point to) noexcept {
    return std::chrono::duration<double, std::milli>(to - from).count();
  }
  void run() noexcept;
  // Resolves or rejects.
  void conclude(Napi::Env env);

  Napi::Promise::Deferred deferred_;
  Clock::time_point queued_, started_, ended_;
  std::optional<Error> error_;
};

// Reads arguments and submits; whatever is wrong with the arguments rejects the promise instead of throwing.
template <class Make>
Napi::Value promise(Napi::Env env, Make make) {
  try {
    return PromiseWorker::submit(env, make());
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    return PromiseWorker::rejected(env);
  }
}

}  // namespace belfry::binding
