#pragma once

// A file in memory with a path (Linux): a fuzzer opens tens of thousands of files a second without touching a disk.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace belfry::test {

class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)) {
    if (descriptor_ < 0) __builtin_trap();
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { (void)close(descriptor_); }

  void set(const void* bytes, size_t count) {
    if (ftruncate(descriptor_, 0) != 0) __builtin_trap();
    if (pwrite(descriptor_, bytes, count, 0) != static_cast<ssize_t>(count)) __builtin_trap();
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

}  // namespace belfry::test
