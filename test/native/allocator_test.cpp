// Freed blocks go back to the system.
#include "core/allocator.hpp"
#include "check.hpp"

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && __GLIBC_PREREQ(2, 33)
#include <malloc.h>

namespace {

using namespace belfry;

// Whether a block of these bytes is mapped on its own.
bool is_mapped(size_t bytes) {
  const size_t before = mallinfo2().hblks;
  void* volatile block = std::malloc(bytes);
  const bool mapped = mallinfo2().hblks == before + 1;
  std::free(block);
  return mapped;
}

TEST(allocator_maps_large_blocks_whatever_was_freed_before) {
  malloc_trim(0);  // what earlier tests have left
  CHECK(limit_kept_memory());
  is_mapped(24 << 20);  // from here on glibc would keep blocks of up to this size
  CHECK(is_mapped(8 << 20));
  CHECK(is_mapped(2 << 20));
  CHECK(!is_mapped(1 << 16));
}

}  // namespace

#endif
