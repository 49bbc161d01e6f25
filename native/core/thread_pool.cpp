#include "core/thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#endif

namespace belfry {

namespace {

// Behind the thread that reads requests; measured in docs/decisions/0011-overload.md.
constexpr int kSearchNice = 10;
// Behind the threads that answer, ahead of idle work.
constexpr int kBackgroundNice = 15;

// Of the calling thread. Linux alone takes "this process" for the calling thread. A refusal changes nothing but speed.
void lower_priority(int nice) {
#if defined(__linux__)
  (void)setpriority(PRIO_PROCESS, 0, std::max(nice, getpriority(PRIO_PROCESS, 0)));
#else
  (void)nice;
#endif
}

// What the threads of one parallel_for share. Helpers hold it by shared_ptr: one that starts late finds nothing to do.
struct Loop {
  Loop(size_t n, const std::function<void(size_t)>& call) : count(n), body(call) {}

  void work() {
    for (;;) {
      size_t i = next.fetch_add(1);
      if (i >= count) return;
      std::exception_ptr caught;
      if (!failed.load()) {
        try {
          body(i);
        } catch (...) {
          caught = std::current_exception();
        }
      }
      std::lock_guard lock(mutex);
      if (caught && !error) {
        error = std::move(caught);  // a copy would be let go of after the owner has seen it
        failed.store(true);
      }
      if (++done == count) all_done.notify_all();
    }
  }

  const size_t count;
  // Only called for i < count, and the owner waits until all those are done, so the reference outlives every call.
  const std::function<void(size_t)>& body;
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::condition_variable all_done;
  size_t done = 0;
  std::exception_ptr error;
};

}  // namespace

ThreadPool& ThreadPool::instance() {
  static ThreadPool* pool = new ThreadPool();
  return *pool;
}

size_t ThreadPool::cpu_count() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<size_t>(std::max(1, CPU_COUNT(&set)));
#endif
  return std::max(1U, std::thread::hardware_concurrency());
}

ThreadPool::ThreadPool() { grow(cpu_count()); }

void ThreadPool::grow(size_t threads) {
  std::lock_guard lock(mutex_);
  while (threads_ < threads) {
    try {
      std::thread([this] { run(); }).detach();
    } catch (const std::system_error&) {
      // Out of threads: what runs already serves. With none at all nothing would ever settle, so that is an error.
      if (threads_ == 0) throw;
      return;
    }
    ++threads_;
  }
}

void ThreadPool::post(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void ThreadPool::run_aside(std::function<void()> job) {
  auto shared = std::make_shared<std::function<void()>>(std::move(job));
  try {
    std::thread([shared] {
      lower_priority(kBackgroundNice);
      (*shared)();
    }).detach();
  } catch (const std::system_error&) {
    post([shared] { (*shared)(); });
  }
}

void ThreadPool::yield_to_requests() {
  std::lock_guard lock(mutex_);
  yields_ = true;
}

void ThreadPool::run() {
  bool yields = false;
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return !jobs_.empty(); });
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    const bool starts_to_yield = yields_ && !yields;
    lock.unlock();
    if (starts_to_yield) {
      lower_priority(kSearchNice);
      yields = true;
    }
    job();
    job = nullptr;
    lock.lock();
  }
}

void ThreadPool::parallel_for(size_t count, size_t width, const std::function<void(size_t)>& body) {
  if (count == 0) return;
  width = std::min(width, count);
  if (width <= 1) {
    for (size_t i = 0; i < count; ++i) body(i);
    return;
  }
  auto loop = std::make_shared<Loop>(count, body);
  {
    // Helpers go to the front: they finish work that is already running before new jobs start.
    std::lock_guard lock(mutex_);
    try {
      for (size_t i = 1; i < width; ++i) jobs_.push_front([loop] { loop->work(); });
    } catch (const std::bad_alloc&) {
      // Fewer helpers then. Leaving here would take `body` away from those that are queued.
    }
  }
  for (size_t i = 1; i < width; ++i) wake_.notify_one();
  loop->work();
  std::unique_lock lock(loop->mutex);
  loop->all_done.wait(lock, [&] { return loop->done == count; });
  // Taken out of the loop, which a helper may be the last to let go of: the exception ends on the thread that handles
  // it.
  if (const std::exception_ptr error = std::exchange(loop->error, nullptr)) std::rethrow_exception(error);
}

}  // namespace belfry
