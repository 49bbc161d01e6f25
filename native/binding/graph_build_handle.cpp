#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "binding/addon_state.hpp"
#include "binding/arguments.hpp"
#include "binding/handles.hpp"
#include "binding/promise_worker.hpp"
#include "storage/file.hpp"
#include "storage/graph_file.hpp"

namespace belfry::binding {

namespace {

const char* phase_name(BuildPhase phase) {
  switch (phase) {
    case BuildPhase::kOrder: return "order";
    case BuildPhase::kNeighbours: return "neighbours";
    case BuildPhase::kPrune: return "prune";
    case BuildPhase::kUsers: return "users";
    case BuildPhase::kConnect: return "connect";
  }
  return "unknown";
}

class GraphBuildWorker final : public PromiseWorker {
 public:
  GraphBuildWorker(Napi::Env env, std::shared_ptr<RunningGraphBuild> running)
      : PromiseWorker(env), running_(std::move(running)) {
    if (running_->started.exchange(true)) {
      throw Error(codes::kInvalidArgument, "NativeGraphBuild: run was called before; prepare another build");
    }
  }

 protected:
  void execute() override {
    RunningGraphBuild& build = *running_;
    GraphBuildOptions options = build.options;
    { const NewFile writable(build.path); }  // a path that cannot be written is told before the work, not after it
    // The users that are wanted, as f32; the rest of their file is never read.
    VectorSource users;
    if (build.users != nullptr && !build.user_rows.empty()) {
      const uint32_t dims = build.users->dims();
      const auto values = std::make_shared<AlignedBuffer<float>>(build.user_rows.size() * dims);
      for (size_t i = 0; i < build.user_rows.size(); ++i) {
        float* row = values->data() + i * dims;
        build.users->read_row(build.user_rows[i], row);
        if (!std::all_of(row, row + dims, [](float value) { return std::isfinite(value); })) {
          throw Error(codes::kBadVector, "users: row " + std::to_string(build.user_rows[i]) +
                                             " holds NaN or an infinite value; remove or repair it in the export");
        }
      }
      users = {values,          reinterpret_cast<const unsigned char*>(values->data()), size_t{dims} * sizeof(float),
               RowFormat::kF32, static_cast<uint32_t>(build.user_rows.size()),          dims};
      options.users = &users;
    }
    const VectorSource items = Matrix::vectors(build.items, options.threads);
    const Graph graph = build_graph(items, build.metric, *build.kernel, options, build.progress);
    write_graph(build.path, graph, {build.items->rows(), build.items->dims(), build.metric, build.vectors}, build.notes,
                options.threads);
    degree_ = graph.degree;
    entries_ = graph.entries.size();
    query_edges_ = graph.query_edges;
  }
  Napi::Value result(Napi::Env env) override {
    Napi::Object out = Napi::Object::New(env);
    out.Set("degree", degree_);
    out.Set("entries", static_cast<double>(entries_));
    out.Set("queryEdges", query_edges_);
    out.Set("runMs", run_ms());
    return out;
  }

 private:
  std::shared_ptr<RunningGraphBuild> running_;
  uint32_t degree_ = 0, query_edges_ = 0;
  size_t entries_ = 0;
};

}  // namespace

std::shared_ptr<RunningGraphBuild> RunningGraphBuild::read(const Napi::Object& options) {
  auto build = std::make_shared<RunningGraphBuild>();
  build->items = MatrixHandle::unwrap_checked(options.Get("matrix"), "matrix");
  build->metric = read_metric(options.Get("metric"), "metric");
  build->kernel = &read_kernel(options.Get("kernel"), "kernel");
  build->path = read_string(options.Get("out"), "out");
  build->vectors = read_string(options.Get("vectors"), "vectors");
  GraphBuildOptions& wanted = build->options;
  wanted.threads = read_optional_integer(options, "threads", 1, 1024).value_or(ThreadPool::cpu_count());
  const auto number = [&](const char* field, uint64_t min, uint64_t max, uint64_t otherwise) {
    return static_cast<uint32_t>(read_optional_integer(options, field, min, max).value_or(otherwise));
  };
  wanted.degree = number("degree", 8, kDegreeMax, wanted.degree);
  if (wanted.degree % 8 != 0) throw invalid_argument("degree", "a multiple of 8", std::to_string(wanted.degree));
  wanted.candidates = number("candidates", 8, 256, wanted.candidates);
  wanted.seed = number("seed", 0, 0xffffffffU, wanted.seed);
  if (!options.Get("notes").IsUndefined()) build->notes = read_string(options.Get("notes"), "notes");
  check_graph_texts(build->vectors, build->notes);
  if (!options.Get("users").IsUndefined()) {
    build->users = MatrixHandle::unwrap_checked(options.Get("users"), "users");
    const Napi::Value wanted_rows = options.Get("userRows");
    if (wanted_rows.IsUndefined()) {  // as many as may be, spread over all
      const uint64_t all = build->users->rows(), count = std::min<uint64_t>(all, wanted.users_max);
      for (uint64_t i = 0; i < count; ++i) build->user_rows.push_back(static_cast<uint32_t>(i * all / count));
    }
    const Napi::Uint32Array rows =
        wanted_rows.IsUndefined() ? Napi::Uint32Array::New(options.Env(), 0) : read_u32_array(wanted_rows, "userRows");
    if (rows.ElementLength() > wanted.users_max) {
      throw invalid_argument("userRows", "at most " + std::to_string(wanted.users_max) + " rows",
                             std::to_string(rows.ElementLength()));
    }
    build->user_rows.insert(build->user_rows.end(), rows.Data(), rows.Data() + rows.ElementLength());
    for (uint32_t row : build->user_rows) {
      if (row >= build->users->rows()) {
        throw invalid_argument("userRows", "row numbers below " + std::to_string(build->users->rows()),
                               std::to_string(row));
      }
    }
    if (build->users->dims() != build->items->dims()) {
      throw Error(codes::kDimsMismatch,
                  "users: expected " + std::to_string(build->items->dims()) + " dims, as the items have, received " +
                      std::to_string(build->users->dims()),
                  "users");
    }
  }
  return build;
}

Napi::Function GraphBuildHandle::define(Napi::Env env) {
  return DefineClass(
      env, kName,
      {InstanceAccessor<&GraphBuildHandle::memory_bytes>("memoryBytes"), InstanceMethod<&GraphBuildHandle::run>("run"),
       InstanceMethod<&GraphBuildHandle::progress>("progress"), InstanceMethod<&GraphBuildHandle::cancel>("cancel")});
}

Napi::Value GraphBuildHandle::memory_bytes(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const RunningGraphBuild& build = *held();
    GraphBuildOptions options = build.options;
    VectorSource users;
    users.rows = static_cast<uint32_t>(build.user_rows.size());
    if (users.rows > 0) options.users = &users;
    const size_t copied = size_t{users.rows} * build.items->dims() * sizeof(float);
    const size_t bytes = graph_build_memory(build.items->rows(), build.items->dims(), options) + copied;
    return Napi::Number::New(call.Env(), static_cast<double>(bytes));
  });
}

Napi::Value GraphBuildHandle::run(const Napi::CallbackInfo& call) {
  return promise(call.Env(), [&] { return std::make_shared<GraphBuildWorker>(call.Env(), held()); });
}

Napi::Value GraphBuildHandle::progress(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const BuildProgress& progress = held()->progress;
    Napi::Object out = Napi::Object::New(call.Env());
    out.Set("phase", phase_name(progress.phase.load()));
    out.Set("done", static_cast<double>(progress.done.load()));
    out.Set("total", static_cast<double>(progress.total.load()));
    return out;
  });
}

Napi::Value GraphBuildHandle::cancel(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    held()->progress.cancelled.store(true);
    return call.Env().Undefined();
  });
}

}  // namespace belfry::binding
