#include <atomic>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "core/thread_pool.hpp"

namespace {

using belfry::ThreadPool;

TEST(parallel_for_runs_each_index_once_also_nested) {
  std::vector<std::atomic<int>> seen(1000);
  ThreadPool& pool = ThreadPool::instance();
  pool.parallel_for(
      10, 4, [&](size_t outer) { pool.parallel_for(100, 4, [&](size_t inner) { ++seen[outer * 100 + inner]; }); });
  bool once = true;
  for (const std::atomic<int>& count : seen) once &= count == 1;
  CHECK(once);
}

TEST(an_exception_of_a_body_reaches_the_caller) {
  std::atomic<int> ran{0};
  bool caught = false;
  try {
    ThreadPool::instance().parallel_for(100, 3, [&](size_t i) {
      ++ran;
      if (i == 5) throw std::runtime_error("five");
    });
  } catch (const std::runtime_error& error) {
    caught = std::string(error.what()) == "five";
  }
  CHECK(caught && ran <= 100);
}

TEST(jobs_that_wait_for_their_own_loops_do_not_deadlock) {
  ThreadPool& pool = ThreadPool::instance();
  std::atomic<int> done{0};
  const int jobs = 50;
  for (int i = 0; i < jobs; ++i) {
    pool.post([&] {
      pool.parallel_for(20, 8, [](size_t) {});
      ++done;
    });
  }
  pool.parallel_for(1000, 2, [](size_t) {});
  while (done < jobs) {
  }
  CHECK(done == jobs);
}

}  // namespace
