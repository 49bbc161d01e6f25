#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "binding/napi_setup.hpp"
#include "core/error.hpp"
#include "core/thread_pool.hpp"
#include "index/exact_index.hpp"
#include "index/graph.hpp"
#include "storage/key_usage.hpp"
#include "storage/matrix.hpp"
#include "storage/npy_import.hpp"

namespace belfry::binding {

// Back to the system, which glibc does of its own accord only at the end of a heap: a server that swaps generations
// would hold the memory of two.
inline void return_freed_memory() noexcept {
#if defined(__GLIBC__)
  (void)malloc_trim(0);
#endif
}

// JS objects that hold a native one. Handles are made by native code only; running calls hold their own shared_ptr, so
// closing a handle never pulls memory from under them.
template <class Self, class Held>
class Handle : public Napi::ObjectWrap<Self> {
 public:
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Self>(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) {
      NAPI_THROW_VOID(Napi::TypeError::New(info.Env(), "handles are made by the addon, not by new"));
    }
    held_ = *info[0].As<Napi::External<std::shared_ptr<Held>>>().Data();
    info.This().As<Napi::Object>().TypeTag(&Self::kTag);
  }
  ~Handle() override { release(); }
  static Napi::Object make(Napi::Env env, const Napi::FunctionReference& constructor, std::shared_ptr<Held> held) {
    return constructor.New({Napi::External<std::shared_ptr<Held>>::New(env, &held)});
  }

  // Whether one of them takes so much that giving it back to the system is worth the time.
  static constexpr bool kIsLarge = false;

 protected:
  const std::shared_ptr<Held>& held() const {
    if (held_ == nullptr) throw Error(codes::kClosed, std::string(Self::kName) + " was used after close");
    return held_;
  }
  // Giving back large memory takes milliseconds, so the last reference goes on a thread of the pool.
  void release() noexcept {
    if (held_ == nullptr) return;
    try {
      ThreadPool::instance().post([last = std::move(held_)]() mutable {
        last.reset();
        if constexpr (Self::kIsLarge) return_freed_memory();
      });
    } catch (...) {
      held_.reset();  // no memory to queue it: then here
    }
  }

 private:
  std::shared_ptr<Held> held_;
};

class MatrixHandle : public Handle<MatrixHandle, Matrix> {
 public:
  static constexpr const char* kName = "NativeMatrix";
  static constexpr napi_type_tag kTag = {0x5b0c3f0f7a4e4d61, 0x8f8f25b3d0f3a101};
  using Handle::Handle;
  static Napi::Function define(Napi::Env env);
  // The matrix inside a JS value; throws BELFRY_INVALID_ARGUMENT for anything else.
  static std::shared_ptr<Matrix> unwrap_checked(const Napi::Value& value, const char* field);

 private:
  Napi::Value info(const Napi::CallbackInfo& call);
  Napi::Value rows(const Napi::CallbackInfo& call);
  Napi::Value dims(const Napi::CallbackInfo& call);
  Napi::Value read_rows(const Napi::CallbackInfo& call);
  Napi::Value close(const Napi::CallbackInfo& call);
};

// A matrix that JS fills piece by piece.
struct MatrixUnderWay {
  std::shared_ptr<Matrix> matrix;
  size_t filled = 0;  // values
};

class MatrixBuilderHandle : public Handle<MatrixBuilderHandle, MatrixUnderWay> {
 public:
  static constexpr const char* kName = "NativeMatrixBuilder";
  static constexpr napi_type_tag kTag = {0x5b0c3f0f7a4e4d61, 0x8f8f25b3d0f3a102};
  using Handle::Handle;
  static Napi::Function define(Napi::Env env);

 private:
  Napi::Value append(const Napi::CallbackInfo& call);
  Napi::Value finish(const Napi::CallbackInfo& call);
};

struct RunningImport {
  RunningImport(const std::string& path, const std::string& out) : import(path, out) {}
  NpyImport import;
  std::atomic<bool> busy{false};
};

class ImportHandle : public Handle<ImportHandle, RunningImport> {
 public:
  static constexpr const char* kName = "NativeImport";
  static constexpr napi_type_tag kTag = {0x5b0c3f0f7a4e4d61, 0x8f8f25b3d0f3a103};
  using Handle::Handle;
  static Napi::Function define(Napi::Env env);

 private:
  Napi::Value info(const Napi::CallbackInfo& call);
  Napi::Value rows(const Napi::CallbackInfo& call);
  Napi::Value dims(const Napi::CallbackInfo& call);
  Napi::Value step(const Napi::CallbackInfo& call);
  Napi::Value finish(const Napi::CallbackInfo& call);
  Napi::Value abort(const Napi::CallbackInfo& call);
};

class IndexHandle : public Handle<IndexHandle, const ExactIndex> {
 public:
  static constexpr const char* kName = "NativeIndex";
  static constexpr bool kIsLarge = true;
  static constexpr napi_type_tag kTag = {0x5b0c3f0f7a4e4d61, 0x8f8f25b3d0f3a104};
  using Handle::Handle;
  static Napi::Function define(Napi::Env env);

 private:
  Napi::Value info(const Napi::CallbackInfo& call);
  Napi::Value search(const Napi::CallbackInfo& call);
  Napi::Value walk(const Napi::CallbackInfo& call);
  Napi::Value score_rows(const Napi::CallbackInfo& call);
  Napi::Value unreachable(const Napi::CallbackInfo& call);
  Napi::Value close(const Napi::CallbackInfo& call);
};

// A graph that is to be built, or is being built: what the watcher and the worker share.
struct RunningGraphBuild {
  // Reads and checks the options; throws BELFRY_INVALID_ARGUMENT, BELFRY_DIMS_MISMATCH.
  static std::shared_ptr<RunningGraphBuild> read(const Napi::Object& options);

  std::shared_ptr<const Matrix> items, users;
  std::vector<uint32_t> user_rows;
  Metric metric = Metric::kIp;
  const KernelTable* kernel = nullptr;
  GraphBuildOptions options;
  std::string path, vectors, notes = "{}";
  BuildProgress progress;
  std::atomic<bool> started{false};
};

class GraphBuildHandle : public Handle<GraphBuildHandle, RunningGraphBuild> {
 public:
  static constexpr const char* kName = "NativeGraphBuild";
  static constexpr napi_type_tag kTag = {0x5b0c3f0f7a4e4d61, 0x8f8f25b3d0f3a108};
  using Handle::Handle;
  static Napi::Function define(Napi::Env env);

 private:
  Napi::Value memory_bytes(const Napi::CallbackInfo& call);
  Napi::Value run(const Napi::CallbackInfo& call);
  Napi::Value progress(const Napi::CallbackInfo& call);
  Napi::Value cancel(const Napi::CallbackInfo& call);
};

class KeyUsageHandle : public Handle<KeyUsageHandle, KeyUsage> {
 public:
  static constexpr const char* kName = "NativeKeyUsage";
  static constexpr napi_type_tag kTag = {0x5b0c3f0f7a4e4d61, 0x8f8f25b3d0f3a109};
  using Handle::Handle;
  static Napi::Function define(Napi::Env env);

 private:
  Napi::Value take(const Napi::CallbackInfo& call);
  Napi::Value close(const Napi::CallbackInfo& call);
};

Napi::Value open_key_usage(const Napi::CallbackInfo& call);

Napi::Object npy_info(Napi::Env env, const std::string& path, const NpyHeader& header, uint64_t file_bytes);

// Values that one call on the JS thread may copy: 8 MiB, below 1 ms when the memory is resident.
inline constexpr size_t kSyncValuesMax = size_t{2} << 20;
inline constexpr size_t kSyncRowsMax = 16'384;

}  // namespace belfry::binding
