#include <utility>
#include <vector>

#include "binding/addon_state.hpp"
#include "binding/arguments.hpp"
#include "binding/handles.hpp"
#include "binding/promise_worker.hpp"

namespace belfry::binding {

namespace {

// One step or finish at a time: both work on the same buffers and files.
class ImportWorker : public PromiseWorker {
 public:
  ImportWorker(Napi::Env env, std::shared_ptr<RunningImport> running)
      : PromiseWorker(env), running_(std::move(running)) {
    if (running_->busy.exchange(true)) {
      throw Error(codes::kInvalidArgument, "NativeImport: a step is still running; await it before the next call");
    }
  }
  ~ImportWorker() override = default;

 protected:
  // Free again when the promise settles and not when the thread is done: a second call before that is always refused,
  // however fast the first one was.
  void settling() noexcept override { running_->busy.store(false); }
  std::shared_ptr<RunningImport> running_;
};

class StepWorker final : public ImportWorker {
 public:
  StepWorker(Napi::Env env, std::shared_ptr<RunningImport> running, uint64_t rows)
      : ImportWorker(env, std::move(running)), rows_(rows) {}

 protected:
  void execute() override { done_ = running_->import.step(rows_); }
  Napi::Value result(Napi::Env env) override { return Napi::Number::New(env, static_cast<double>(done_)); }

 private:
  uint64_t rows_;
  uint64_t done_ = 0;
};

class FinishWorker final : public ImportWorker {
 public:
  using ImportWorker::ImportWorker;

 protected:
  void execute() override { profile_ = running_->import.finish(); }
  Napi::Value result(Napi::Env env) override {
    Napi::Object out = Napi::Object::New(env);
    const auto number = [&](double value) { return Napi::Number::New(env, value); };
    out.Set("rows", number(static_cast<double>(running_->import.rows())));
    out.Set("dims", number(static_cast<double>(running_->import.dims())));
    out.Set("nonFiniteRows", hand_over<Napi::Uint32Array>(env, std::move(profile_.non_finite_rows)));
    out.Set("nonFiniteCount", number(static_cast<double>(profile_.non_finite_count)));
    out.Set("zeroRows", hand_over<Napi::Uint32Array>(env, std::move(profile_.zero_rows)));
    out.Set("zeroCount", number(static_cast<double>(profile_.zero_count)));
    out.Set("overflowCount", number(static_cast<double>(profile_.overflow_count)));
    out.Set("normMin", number(profile_.norm_min));
    out.Set("normMean",
            number(profile_.norm_count == 0 ? 0 : profile_.norm_sum / static_cast<double>(profile_.norm_count)));
    out.Set("normMax", number(profile_.norm_max));
    return out;
  }

 private:
  VectorProfile profile_;
};

}  // namespace

Napi::Function ImportHandle::define(Napi::Env env) {
  return DefineClass(env, kName,
                     {InstanceAccessor<&ImportHandle::info>("info"), InstanceAccessor<&ImportHandle::rows>("rows"),
                      InstanceAccessor<&ImportHandle::dims>("dims"), InstanceMethod<&ImportHandle::step>("step"),
                      InstanceMethod<&ImportHandle::finish>("finish"), InstanceMethod<&ImportHandle::abort>("abort")});
}

Napi::Value ImportHandle::info(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const NpyFile& source = held()->import.source();
    return npy_info(call.Env(), source.file.path(), source.header, source.stamp.bytes);
  });
}
Napi::Value ImportHandle::rows(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(call.Env(), static_cast<double>(held()->import.rows()));
  });
}
Napi::Value ImportHandle::dims(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(call.Env(), static_cast<double>(held()->import.dims()));
  });
}

Napi::Value ImportHandle::step(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] {
    const uint64_t rows = read_integer(call[0], "rows", 1, uint64_t{1} << 32);
    return std::make_shared<StepWorker>(call.Env(), held(), rows);
  });
}

Napi::Value ImportHandle::finish(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] { return std::make_shared<FinishWorker>(call.Env(), held()); });
}

Napi::Value ImportHandle::abort(const Napi::CallbackInfo& call) {
  try {
    held()->import.cancel();
  } catch (const Error&) {
    return call.Env().Undefined();  // aborted before
  }
  release();  // a running step holds the files until it notices
  return call.Env().Undefined();
}

}  // namespace belfry::binding
