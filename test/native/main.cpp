#include "check.hpp"

int main() {
  for (const belfry::test::Test& test : belfry::test::tests()) {
    const int before = belfry::test::failures();
    test.run();
    std::printf("%s %s\n", belfry::test::failures() == before ? "ok  " : "FAIL", test.name);
  }
  std::printf("%zu tests, %d failures\n", belfry::test::tests().size(), belfry::test::failures());
  return belfry::test::failures() == 0 ? 0 : 1;
}
