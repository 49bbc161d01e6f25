#pragma once

// Loops whose counter is a compile-time constant. GCC promotes an array of vectors to registers only when every index
// is constant before its own unrolling runs; otherwise the accumulators of a kernel live on the stack, which costs a
// third of the speed (docs/decisions/0002-exact-search-kernels.md).

#include <cstdint>

namespace belfry {
namespace {

template <uint32_t kValue>
struct Index {
  static constexpr uint32_t value = kValue;
};

// body(Index<0>{}), ..., body(Index<kCount - 1>{})
template <uint32_t kCount, uint32_t kAt = 0, class Body>
[[gnu::always_inline]] inline void unroll(const Body& body) {
  if constexpr (kAt < kCount) {
    body(Index<kAt>{});
    unroll<kCount, kAt + 1>(body);
  }
}

}  // namespace
}  // namespace belfry

#define BELFRY_INLINE_BODY __attribute__((always_inline))
