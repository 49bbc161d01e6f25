#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "binding/arguments.hpp"
#include "binding/exports.hpp"
#include "binding/handles.hpp"
#include "binding/promise_worker.hpp"
#include "index/mmr.hpp"
#include "kernels/cpu.hpp"

namespace belfry::binding {

namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr uint64_t kCandidatesMax = 16'384;
constexpr uint64_t kGroupsMax = uint64_t{2} << 20;  // copied on the JS thread

std::vector<uint32_t> copy_u32(const Napi::Value& value, const char* field, uint64_t max) {
  const Napi::Uint32Array array = read_u32_array(value, field);
  if (array.ElementLength() > max) {
    throw invalid_argument(field, "at most " + std::to_string(max) + " values", std::to_string(array.ElementLength()));
  }
  return {array.Data(), array.Data() + array.ElementLength()};
}

double read_number(const Napi::Value& value, const char* field, double min, double max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : min - 1;
  if (!(number >= min && number <= max)) {
    throw invalid_argument(field, "a number from " + std::to_string(min) + " to " + std::to_string(max), show(value));
  }
  return number;
}

Caps read_caps(const Napi::Value& value, size_t count) {
  Caps caps;
  if (value.IsUndefined()) return caps;
  if (!value.IsObject()) throw invalid_argument("caps", "an object", show(value));
  const Napi::Object given = value.As<Napi::Object>();
  caps.offsets = copy_u32(given.Get("offsets"), "caps.offsets", kCandidatesMax + 1);
  caps.groups = copy_u32(given.Get("groups"), "caps.groups", kGroupsMax);
  caps.limits = copy_u32(given.Get("limits"), "caps.limits", kGroupsMax);
  if (caps.offsets.size() != count + 1 || caps.offsets.front() != 0 || caps.offsets.back() != caps.groups.size()) {
    throw invalid_argument("caps.offsets", "offsets from 0 to the number of groups, one more than there are rows",
                           std::to_string(caps.offsets.size()) + " offsets");
  }
  for (size_t i = 0; i < count; ++i) {
    if (caps.offsets[i] > caps.offsets[i + 1]) {
      throw invalid_argument("caps.offsets", "offsets that never fall", std::to_string(caps.offsets[i + 1]));
    }
  }
  for (const uint32_t group : caps.groups) {
    if (group >= caps.limits.size()) {
      throw invalid_argument("caps.groups", "groups below " + std::to_string(caps.limits.size()),
                             std::to_string(group));
    }
  }
  return caps;
}

class ChooseDiverseWorker final : public PromiseWorker {
 public:
  ChooseDiverseWorker(Napi::Env env, const Napi::Object& options) : PromiseWorker(env) {
    const Napi::Value sources = options.Get("sources");
    if (!sources.IsArray() || sources.As<Napi::Array>().Length() == 0) {
      throw invalid_argument("sources", "a list of matrices", show(sources));
    }
    const Napi::Array list = sources.As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length(); ++i) {
      sources_.push_back(MatrixHandle::unwrap_checked(list.Get(i), "sources"));
      if (sources_[i]->dims() != sources_[0]->dims()) {
        throw invalid_argument("sources", "matrices of the same dims", std::to_string(sources_[i]->dims()));
      }
    }
    rows_ = copy_u32(options.Get("rows"), "rows", kCandidatesMax);
    of_ = copy_u32(options.Get("of"), "of", kCandidatesMax);
    if (of_.size() != rows_.size()) throw invalid_argument("of", "one source per row", std::to_string(of_.size()));
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (of_[i] >= sources_.size()) throw invalid_argument("of", "positions in sources", std::to_string(of_[i]));
      if (rows_[i] >= sources_[of_[i]]->rows()) {
        throw invalid_argument("rows", "row numbers below " + std::to_string(sources_[of_[i]]->rows()),
                               std::to_string(rows_[i]));
      }
    }
    const Napi::Float32Array relevance = read_f32_array(options.Get("relevance"), "relevance");
    if (relevance.ElementLength() != rows_.size()) {
      throw invalid_argument("relevance", "one value per row", std::to_string(relevance.ElementLength()));
    }
    job_.relevance.assign(relevance.Data(), relevance.Data() + relevance.ElementLength());
    for (const float value : job_.relevance) {
      if (!std::isfinite(value)) throw invalid_argument("relevance", "finite values", std::to_string(value));
    }
    job_.count = static_cast<uint32_t>(rows_.size());
    job_.dims = sources_[0]->dims();
    job_.k = static_cast<uint32_t>(read_integer(options.Get("k"), "k", 0, kCandidatesMax));
    job_.chosen = static_cast<uint32_t>(read_integer(options.Get("chosen"), "chosen", 0, job_.count));
    job_.diversity = read_number(options.Get("diversity"), "diversity", 0, 1);
    job_.caps = read_caps(options.Get("caps"), job_.count);
    const double deadline_ms = read_number(options.Get("deadlineMs"), "deadlineMs", -1e9, 1e9);
    end_ = SteadyClock::now() + std::chrono::microseconds(static_cast<int64_t>(deadline_ms * 1000));
  }

 protected:
  void execute() override {
    const auto check = [this] {
      if (SteadyClock::now() >= end_) {
        throw Error(codes::kDeadlineExceeded, "diversity: the deadline passed while the list was put together");
      }
    };
    const std::vector<std::shared_ptr<Matrix>> sources = std::move(sources_);  // freed here, if closed in the meantime
    job_.vectors.resize(size_t{job_.count} * job_.dims);
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (i % 256 == 0) check();
      sources[of_[i]]->read_row(rows_[i], job_.vectors.data() + i * job_.dims);
    }
    order_ = choose_diverse(job_, *available_kernels().front(), check);
  }
  Napi::Value result(Napi::Env env) override { return hand_over<Napi::Uint32Array>(env, std::move(order_)); }

 private:
  std::vector<std::shared_ptr<Matrix>> sources_;
  std::vector<uint32_t> rows_, of_, order_;
  MmrJob job_;
  SteadyClock::time_point end_;
};

}  // namespace

Napi::Value choose_diverse_of(const Napi::CallbackInfo& call) {
  return promise(call.Env(),
                 [&] { return std::make_shared<ChooseDiverseWorker>(call.Env(), read_object(call, 0, "options")); });
}

}  // namespace belfry::binding
