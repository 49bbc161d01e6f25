#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <queue>
#include <utility>
#include <vector>

namespace belfry::graph_build {

// Runs tasks that each need two partitions, so that every partition sees its tasks in the order of the list: the same
// lists as on one thread, whatever the number of threads. A task is ready when it is the next one of both.
class OrderedTasks {
 public:
  OrderedTasks(const std::vector<std::pair<uint32_t, uint32_t>>& tasks, uint32_t partitions)
      : tasks_(tasks), queues_(partitions), next_(partitions, 0) {
    for (uint32_t task = 0; task < tasks.size(); ++task) {
      queues_[tasks[task].first].push_back(task);
      if (tasks[task].second != tasks[task].first) queues_[tasks[task].second].push_back(task);
    }
    for (uint32_t p = 0; p < partitions; ++p) {
      // Of the two partitions of a task, the first one pushes it.
      if (head(p) != kNone && tasks[head(p)].first == p && is_ready(head(p))) ready_.push(head(p));
    }
  }

  // Takes tasks until all are done. `run` may throw: then the others stop too.
  template <class Run>
  void work(const Run& run) {
    for (;;) {
      uint32_t task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return failed_ || done_ == tasks_.size() || !ready_.empty(); });
        if (failed_ || ready_.empty()) return;
        task = ready_.top();
        ready_.pop();
      }
      try {
        run(task);
      } catch (...) {
        finish(task, true);
        throw;
      }
      finish(task, false);
    }
  }

 private:
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  uint32_t head(uint32_t partition) const {
    const std::vector<uint32_t>& queue = queues_[partition];
    return next_[partition] < queue.size() ? queue[next_[partition]] : kNone;
  }
  bool is_ready(uint32_t task) const { return head(tasks_[task].first) == task && head(tasks_[task].second) == task; }
  void finish(uint32_t task, bool failed) {
    const std::lock_guard lock(mutex_);
    failed_ = failed_ || failed;
    ++done_;
    const auto [a, b] = tasks_[task];
    ++next_[a];
    if (b != a) ++next_[b];
    const uint32_t after_a = head(a), after_b = head(b);
    if (after_a != kNone && is_ready(after_a)) ready_.push(after_a);
    if (after_b != kNone && after_b != after_a && is_ready(after_b)) ready_.push(after_b);
    changed_.notify_all();
  }

  const std::vector<std::pair<uint32_t, uint32_t>>& tasks_;
  std::vector<std::vector<uint32_t>> queues_;
  std::vector<size_t> next_;
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ready_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t done_ = 0;
  bool failed_ = false;
};

}  // namespace belfry::graph_build
