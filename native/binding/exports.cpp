#include "binding/exports.hpp"

#include <limits>
#include <optional>
#include <utility>

#include "binding/addon_state.hpp"
#include "binding/arguments.hpp"
#include "binding/filter_handles.hpp"
#include "binding/handles.hpp"
#include "binding/promise_worker.hpp"
#include "core/allocator.hpp"
#include "core/sockets.hpp"
#include "core/thread_pool.hpp"
#include "kernels/cpu.hpp"
#include "storage/file.hpp"
#include "storage/graph_file.hpp"

namespace belfry::binding {

namespace {

class NpyInfoWorker final : public PromiseWorker {
 public:
  NpyInfoWorker(Napi::Env env, std::string path) : PromiseWorker(env), path_(std::move(path)) {}

 protected:
  void execute() override {
    const NpyFile npy = NpyFile::open(path_);
    header_ = npy.header;
    file_bytes_ = npy.stamp.bytes;
  }
  Napi::Value result(Napi::Env env) override { return npy_info(env, path_, header_, file_bytes_); }

 private:
  std::string path_;
  NpyHeader header_;
  uint64_t file_bytes_ = 0;
};

class ReadIdsWorker final : public PromiseWorker {
 public:
  ReadIdsWorker(Napi::Env env, std::string path) : PromiseWorker(env), path_(std::move(path)) {}

 protected:
  void execute() override { ids_ = read_npy_ids(path_); }
  Napi::Value result(Napi::Env env) override { return hand_over<Napi::BigInt64Array>(env, std::move(ids_)); }

 private:
  std::string path_;
  std::vector<int64_t> ids_;
};

class OpenImportWorker final : public PromiseWorker {
 public:
  OpenImportWorker(Napi::Env env, std::string path, std::string out)
      : PromiseWorker(env), path_(std::move(path)), out_(std::move(out)) {}

 protected:
  void execute() override { import_ = std::make_shared<RunningImport>(path_, out_); }
  Napi::Value result(Napi::Env env) override {
    return ImportHandle::make(env, AddonState::of(env).import_class, std::move(import_));
  }

 private:
  std::string path_, out_;
  std::shared_ptr<RunningImport> import_;
};

class OpenMatrixWorker final : public PromiseWorker {
 public:
  OpenMatrixWorker(Napi::Env env, std::string path) : PromiseWorker(env), path_(std::move(path)) {}

 protected:
  void execute() override { matrix_ = Matrix::open(path_); }
  Napi::Value result(Napi::Env env) override {
    return MatrixHandle::make(env, AddonState::of(env).matrix_class, std::move(matrix_));
  }

 private:
  std::string path_;
  std::shared_ptr<Matrix> matrix_;
};

class CreateMatrixWorker final : public PromiseWorker {
 public:
  CreateMatrixWorker(Napi::Env env, uint32_t rows, uint32_t dims) : PromiseWorker(env), rows_(rows), dims_(dims) {}

 protected:
  void execute() override {
    building_ = std::make_shared<MatrixUnderWay>(MatrixUnderWay{Matrix::in_memory(rows_, dims_)});
  }
  Napi::Value result(Napi::Env env) override {
    return MatrixBuilderHandle::make(env, AddonState::of(env).matrix_builder_class, std::move(building_));
  }

 private:
  uint32_t rows_, dims_;
  std::shared_ptr<MatrixUnderWay> building_;
};

// A graph to be opened with an index.
struct GraphFile {
  std::string path, vectors;
  LoadMode mode;
};

class CreateIndexWorker final : public PromiseWorker {
 public:
  CreateIndexWorker(Napi::Env env, std::shared_ptr<const Matrix> matrix, Metric metric, const KernelTable& kernel,
                    size_t threads, bool aside, std::optional<GraphFile> graph)
      : PromiseWorker(env),
        matrix_(std::move(matrix)),
        metric_(metric),
        kernel_(kernel),
        threads_(threads),
        aside_(aside),
        graph_(std::move(graph)) {}

 protected:
  void execute() override {
    const std::shared_ptr<const Matrix> matrix = std::move(matrix_);  // freed here, if it was closed in the meantime
    const size_t width = aside_ ? 1 : threads_;
    std::optional<Graph> graph;
    if (graph_) {
      const GraphIdentity identity{matrix->rows(), matrix->dims(), metric_, graph_->vectors};
      graph = read_graph(graph_->path, identity, graph_->mode, width).graph;
    }
    const auto index =
        std::make_shared<ExactIndex>(Matrix::vectors(matrix, width), metric_, kernel_, width, std::move(graph));
    index->search_on(threads_);
    index_ = index;
  }
  bool runs_aside() const noexcept override { return aside_; }
  Napi::Value result(Napi::Env env) override {
    return IndexHandle::make(env, AddonState::of(env).index_class, std::move(index_));
  }

 private:
  std::shared_ptr<const Matrix> matrix_;
  Metric metric_;
  const KernelTable& kernel_;
  size_t threads_;
  bool aside_;
  std::optional<GraphFile> graph_;
  std::shared_ptr<const ExactIndex> index_;
};

std::optional<GraphFile> read_graph_file(const Napi::Value& value) {
  if (value.IsUndefined()) return std::nullopt;
  if (!value.IsObject()) throw invalid_argument("graph", "an object", show(value));
  const Napi::Object graph = value.As<Napi::Object>();
  GraphFile file{read_string(graph.Get("path"), "graph.path"), read_string(graph.Get("vectors"), "graph.vectors"),
                 LoadMode::kHuge};
  const Napi::Value load = graph.Get("load");
  if (!load.IsUndefined()) {
    const std::string mode = read_string(load, "graph.load");
    if (mode != "huge" && mode != "mmap") throw invalid_argument("graph.load", "\"huge\" or \"mmap\"", show(load));
    file.mode = mode == "mmap" ? LoadMode::kMmap : LoadMode::kHuge;
  }
  return file;
}

Napi::Value npy_info_of(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] { return std::make_shared<NpyInfoWorker>(call.Env(), read_string(call[0], "path")); });
}

Napi::Value read_ids(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] { return std::make_shared<ReadIdsWorker>(call.Env(), read_string(call[0], "path")); });
}

Napi::Value open_import(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] {
    const Napi::Object options = read_object(call, 0, "options");
    return std::make_shared<OpenImportWorker>(call.Env(), read_string(options.Get("path"), "path"),
                                              read_string(options.Get("out"), "out"));
  });
}

Napi::Value open_matrix(const Napi::CallbackInfo& call) {
  return promise(call.Env(),
                 [&] { return std::make_shared<OpenMatrixWorker>(call.Env(), read_string(call[0], "path")); });
}

Napi::Value create_matrix(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] {
    const Napi::Object options = read_object(call, 0, "options");
    const auto rows = static_cast<uint32_t>(read_integer(options.Get("rows"), "rows", 0, kRowsMax));
    const auto dims = static_cast<uint32_t>(read_integer(options.Get("dims"), "dims", 1, kDimsMax));
    return std::make_shared<CreateMatrixWorker>(call.Env(), rows, dims);
  });
}

Napi::Value create_index(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] {
    const Napi::Object options = read_object(call, 0, "options");
    std::shared_ptr<const Matrix> matrix = MatrixHandle::unwrap_checked(options.Get("matrix"), "matrix");
    const Metric metric = read_metric(options.Get("metric"), "metric");
    const KernelTable& kernel = read_kernel(options.Get("kernel"), "kernel");
    const size_t threads = read_optional_integer(options, "threads", 1, 1024).value_or(ThreadPool::cpu_count());
    const bool aside = read_optional_flag(options, "background");
    return std::make_shared<CreateIndexWorker>(call.Env(), std::move(matrix), metric, kernel, threads, aside,
                                               read_graph_file(options.Get("graph")));
  });
}

Napi::Value prepare_graph(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    return GraphBuildHandle::make(call.Env(), AddonState::of(call.Env()).graph_build_class,
                                  RunningGraphBuild::read(read_object(call, 0, "options")));
  });
}

// True when this open file now holds the lock, alone or shared; false when another forbids it. The kernel gives it up
// when the file is closed, however its process ends.
Napi::Value lock_file(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const auto descriptor = static_cast<int>(read_integer(call[0], "descriptor", 0, std::numeric_limits<int>::max()));
    return Napi::Boolean::New(call.Env(), try_lock_file(descriptor, call[1].ToBoolean()));
  });
}

Napi::Value socket_age_of(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const auto descriptor = static_cast<int>(read_integer(call[0], "descriptor", 0, std::numeric_limits<int>::max()));
    return Napi::Number::New(call.Env(), socket_age_ms(descriptor));
  });
}

Napi::Value duplicate_descriptor_of(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const auto descriptor = static_cast<int>(read_integer(call[0], "descriptor", 0, std::numeric_limits<int>::max()));
    return Napi::Number::New(call.Env(), duplicate_descriptor(descriptor));
  });
}

Napi::Value limit_kept_memory_of(const Napi::CallbackInfo& call) {
  return Napi::Boolean::New(call.Env(), limit_kept_memory());
}

void yield_to_requests(const Napi::CallbackInfo&) { ThreadPool::instance().yield_to_requests(); }

void set_error_factory(const Napi::CallbackInfo& call) {
  AddonState::of(call.Env()).set_error_factory(call[0].As<Napi::Function>());
}

Napi::Value graph_memory(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const Napi::Object options = read_object(call, 0, "options");
    const auto rows = static_cast<uint32_t>(read_integer(options.Get("rows"), "rows", 1, kRowsMax));
    const auto dims = static_cast<uint32_t>(read_integer(options.Get("dims"), "dims", 1, kDimsMax));
    VectorSource users;
    users.rows = static_cast<uint32_t>(read_integer(options.Get("users"), "users", 0, kRowsMax));
    GraphBuildOptions wanted;
    wanted.threads = ThreadPool::cpu_count();
    if (users.rows > 0) wanted.users = &users;
    const size_t copied = size_t{users.rows} * dims * sizeof(float);
    return Napi::Number::New(call.Env(), static_cast<double>(graph_build_memory(rows, dims, wanted) + copied));
  });
}

// The names of SearchPath stand in its order.
constexpr const char* kMakeHits =
    "(() => { const paths = ['scan', 'probe', 'list', 'walk', 'filtered walk', 'filtered probe'];"
    " return (rows, scores, counts, path, scored, expanded, fallbacks, queueMs, runMs) =>"
    " ({ rows, scores, counts, path: paths[path], scored, expanded, fallbacks, queueMs, runMs }); })()";

}  // namespace

Napi::Object define_exports(Napi::Env env, Napi::Object exports) {
  auto* state = new AddonState(env);
  env.SetInstanceData<AddonState>(state);
  state->matrix_class = Napi::Persistent(MatrixHandle::define(env));
  state->matrix_builder_class = Napi::Persistent(MatrixBuilderHandle::define(env));
  state->import_class = Napi::Persistent(ImportHandle::define(env));
  state->index_class = Napi::Persistent(IndexHandle::define(env));
  state->graph_build_class = Napi::Persistent(GraphBuildHandle::define(env));
  state->column_class = Napi::Persistent(ColumnHandle::define(env));
  state->column_builder_class = Napi::Persistent(ColumnBuilderHandle::define(env));
  state->filter_class = Napi::Persistent(FilterHandle::define(env));
  state->key_usage_class = Napi::Persistent(KeyUsageHandle::define(env));

  state->make_hits = Napi::Persistent(env.RunScript(kMakeHits).As<Napi::Function>());

  const auto& tables = available_kernels();
  Napi::Array kernels = Napi::Array::New(env, tables.size());
  for (size_t i = 0; i < tables.size(); ++i) kernels.Set(static_cast<uint32_t>(i), tables[i]->name);
  exports.Set("kernels", kernels);
  const CpuInfo& cpu = cpu_info();
  Napi::Object cpu_object = Napi::Object::New(env);
  cpu_object.Set("vendor", cpu.vendor);
  cpu_object.Set("model", cpu.model);
  Napi::Array features = Napi::Array::New(env, cpu.features.size());
  for (size_t i = 0; i < cpu.features.size(); ++i) features.Set(static_cast<uint32_t>(i), cpu.features[i]);
  cpu_object.Set("features", features);
  exports.Set("cpu", cpu_object);

  exports.Set("npyInfo", Napi::Function::New<npy_info_of>(env, "npyInfo"));
  exports.Set("readIds", Napi::Function::New<read_ids>(env, "readIds"));
  exports.Set("openImport", Napi::Function::New<open_import>(env, "openImport"));
  exports.Set("openMatrix", Napi::Function::New<open_matrix>(env, "openMatrix"));
  exports.Set("createMatrix", Napi::Function::New<create_matrix>(env, "createMatrix"));
  exports.Set("createIndex", Napi::Function::New<create_index>(env, "createIndex"));
  exports.Set("createColumn", Napi::Function::New<create_column>(env, "createColumn"));
  exports.Set("evaluateFilter", Napi::Function::New<evaluate_filter_of>(env, "evaluateFilter"));
  exports.Set("createFilter", Napi::Function::New<create_filter>(env, "createFilter"));
  exports.Set("chooseDiverse", Napi::Function::New<choose_diverse_of>(env, "chooseDiverse"));
  exports.Set("copyRows", Napi::Function::New<copy_rows_of>(env, "copyRows"));
  exports.Set("itemsJson", Napi::Function::New<items_json>(env, "itemsJson"));
  exports.Set("openKeyUsage", Napi::Function::New<open_key_usage>(env, "openKeyUsage"));
  exports.Set("lockFile", Napi::Function::New<lock_file>(env, "lockFile"));
  exports.Set("prepareGraph", Napi::Function::New<prepare_graph>(env, "prepareGraph"));
  exports.Set("graphMemory", Napi::Function::New<graph_memory>(env, "graphMemory"));
  exports.Set("socketAge", Napi::Function::New<socket_age_of>(env, "socketAge"));
  exports.Set("duplicateDescriptor", Napi::Function::New<duplicate_descriptor_of>(env, "duplicateDescriptor"));
  exports.Set("limitKeptMemory", Napi::Function::New<limit_kept_memory_of>(env, "limitKeptMemory"));
  exports.Set("yieldToRequests", Napi::Function::New<yield_to_requests>(env, "yieldToRequests"));
  exports.Set("setErrorFactory", Napi::Function::New<set_error_factory>(env, "setErrorFactory"));
  return exports;
}

}  // namespace belfry::binding
