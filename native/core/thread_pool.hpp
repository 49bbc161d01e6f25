#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>

namespace belfry {

// The process's one pool. It is never destroyed: joining threads while a process exits can deadlock, and a thread that
// is in the middle of a search touches only memory that its job owns.
class ThreadPool {
 public:
  static ThreadPool& instance();

  // CPUs that this process may run on.
  static size_t cpu_count();

  // Queues a job. Jobs must not throw.
  void post(std::function<void()> job);

  // Runs a job on a thread of its own, at low priority where the system has priorities of threads: long work that
  // must not take a thread from searches. The job must not throw, and should keep to the width of 1 in parallel_for.
  // Where no thread is to be had it is queued like any other.
  void run_aside(std::function<void()> job);

  // For servers: from its next job on, each thread yields the processor to the thread that reads requests, where the
  // system has priorities of threads.
  void yield_to_requests();

  // Runs body(0) ... body(count - 1) on at most `width` threads, this one included, and returns when all are done.
  // The caller works too, so it may itself be a pool thread. The first exception thrown by a body is rethrown here
  // after the started ones have ended; those not started are skipped.
  void parallel_for(size_t count, size_t width, const std::function<void(size_t)>& body);

 private:
  ThreadPool();
  void grow(size_t threads);
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  size_t threads_ = 0;
  bool yields_ = false;
};

}  // namespace belfry
