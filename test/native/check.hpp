#pragma once

// A test harness of forty lines: TEST registers, CHECK counts, main() reports.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace belfry::test {

// Where threads are watched, everything is ten times as slow: what runs on one thread is repeated less often, and one
// level of kernels is enough, since threads share the same data on all of them.
#ifdef __SANITIZE_THREAD__
inline constexpr bool kThreadsWatched = true;
inline constexpr int kLessOften = 64;
#else
inline constexpr bool kThreadsWatched = false;
inline constexpr int kLessOften = 1;
#endif

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> list;
  return list;
}
inline int& failures() {
  static int count = 0;
  return count;
}
struct Registration {
  Registration(const char* name, void (*run)()) { tests().push_back({name, run}); }
};
inline void fail(const char* file, int line, const std::string& what) {
  if (++failures() <= 20) std::printf("%s:%d: %s\n", file, line, what.c_str());
}

// The seed of a random test: `own`, and in further rounds (BELFRY_TEST_ROUND, see scripts/test-native.mjs) another one.
inline uint32_t seed(uint32_t own) {
  const char* round = std::getenv("BELFRY_TEST_ROUND");
  return own + 1'000'003U * static_cast<uint32_t>(round == nullptr ? 0 : std::atoi(round));
}

}  // namespace belfry::test

#define TEST(name)                                                                 \
  static void test_##name();                                                       \
  static const belfry::test::Registration registration_##name(#name, test_##name); \
  static void test_##name()
#define CHECK(condition) \
  if (!(condition)) belfry::test::fail(__FILE__, __LINE__, "failed: " #condition)
#define CHECK_MESSAGE(condition, message) \
  if (!(condition)) belfry::test::fail(__FILE__, __LINE__, std::string("failed: " #condition ": ") + (message))
