#include "core/allocator.hpp"

#include <cstdlib>  // says which C library it is

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace belfry {

#if defined(__GLIBC__)

namespace {

// From this size on a block is mapped on its own. What requests allocate is smaller.
constexpr int kMappedBytes = 1 << 20;
// Of free memory at the end of an arena.
constexpr int kKeptBytes = 2 << 20;

}  // namespace

bool limit_kept_memory() {
  return mallopt(M_MMAP_THRESHOLD, kMappedBytes) == 1 && mallopt(M_TRIM_THRESHOLD, kKeptBytes) == 1;
}

#else

bool limit_kept_memory() { return false; }

#endif

}  // namespace belfry
