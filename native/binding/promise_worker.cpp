#include "binding/promise_worker.hpp"

#include <utility>

#include "core/thread_pool.hpp"

namespace belfry::binding {

Napi::Value PromiseWorker::submit(Napi::Env env, std::shared_ptr<PromiseWorker> worker) {
  const Napi::Promise promise = worker->deferred_.Promise();
  std::shared_ptr<Delivery> delivery = AddonState::of(env).delivery();
  ThreadPool& pool = ThreadPool::instance();  // may throw, so before begin(): that would keep node alive for ever
  worker->queued_ = Clock::now();
  delivery->begin(env);
  const bool aside = worker->runs_aside();
  auto job = [worker = std::move(worker), delivery = std::move(delivery)]() mutable {
    worker->run();
    delivery->deliver(std::move(worker));
  };
  if (aside) {
    pool.run_aside(std::move(job));
  } else {
    pool.post(std::move(job));
  }
  return promise;
}

Napi::Value PromiseWorker::rejected(Napi::Env env) {
  const Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
  deferred.Reject(AddonState::of(env).make_error(env, current_error()));
  return deferred.Promise();
}

void PromiseWorker::run() noexcept {
  started_ = Clock::now();
  try {
    execute();
  } catch (...) {
    error_ = current_error();
  }
  ended_ = Clock::now();
}

void PromiseWorker::settle(Napi::Env env) noexcept {
  try {
    const Napi::HandleScope scope(env);
    settling();
    conclude(env);
  } catch (const Napi::Error&) {
    // worker.terminate() or process.exit(): JS can no longer run here, so every call fails and nobody waits. Thrown
    // into Node, which called us, it would end the whole process.
  }
}

void PromiseWorker::conclude(Napi::Env env) {
  if (!error_) {
    try {
      deferred_.Resolve(result(env));
      return;
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
      return;
    } catch (...) {
      error_ = current_error();
    }
  }
  deferred_.Reject(AddonState::of(env).make_error(env, *error_));
}

}  // namespace belfry::binding
