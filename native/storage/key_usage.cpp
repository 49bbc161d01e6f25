#include "storage/key_usage.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>

#include "core/error.hpp"
#include "storage/file.hpp"

namespace belfry {

namespace {

constexpr uint64_t kMagic = 0x3145474153554c42;  // "BLUSAGE1" on disk
// The count of a day and the day, modulo 2^14 (45 years), in one word.
constexpr int kCountBits = 50;
constexpr uint64_t kCountMask = (uint64_t{1} << kCountBits) - 1;
constexpr uint64_t kDayMask = (uint64_t{1} << (64 - kCountBits)) - 1;

// Three years: what slow keys and large batches add up to ends here, and sums stay far from overflow.
constexpr double kTimeMax = 1e17;

uint64_t count_on(uint64_t word, uint64_t day) {
  return word >> kCountBits == (day & kDayMask) ? word & kCountMask : 0;
}
uint64_t word_of(uint64_t day, uint64_t count) { return (day & kDayMask) << kCountBits | count; }

// 0, or why not.
int allocate(int descriptor, off_t bytes) {
#if defined(__linux__)
  return ::posix_fallocate(descriptor, 0, bytes);
#else
  return ::ftruncate(descriptor, bytes) == 0 ? 0 : errno;
#endif
}

[[noreturn]] void fail(const std::string& path, const char* what, int error) {
  const bool is_full = error == ENOSPC || error == EDQUOT;
  throw Error(is_full ? codes::kDiskSpace : codes::kFileUnreadable, base_name(path) + ": " + what + ": " +
                                                                        std::generic_category().message(error) +
                                                                        (is_full ? "; free space and retry" : ""));
}

}  // namespace

struct KeyUsage::Slot {
  std::atomic<uint64_t> key;      // 0: free
  std::atomic<int64_t> full_at;   // nanoseconds since 1970
  std::atomic<uint64_t> counted;  // word_of
};

struct KeyUsage::Table {
  std::atomic<uint64_t> magic;
  Slot slots[kSlots];
};

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free);

std::shared_ptr<KeyUsage> KeyUsage::open(const std::string& path) {
  int descriptor = -1;
  if (!path.empty()) {
    descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
    if (descriptor < 0) fail(path, "cannot be opened", errno);
  }
  // Closed on every way out: the mapping holds the file by itself, and would hold the lock too.
  const struct Closer {
    int descriptor;
    ~Closer() {
      if (descriptor < 0) return;
      (void)::flock(descriptor, LOCK_UN);
      (void)::close(descriptor);
    }
  } closer{descriptor};
  if (descriptor >= 0) {
    (void)::flock(descriptor,
                  LOCK_EX);  // one makes it; a file system without locks is no reason to serve without limits
    struct stat status {};
    if (::fstat(descriptor, &status) != 0) fail(path, "cannot be examined", errno);
    const auto bytes = static_cast<uint64_t>(status.st_size);
    if (!S_ISREG(status.st_mode) || (bytes != 0 && bytes != sizeof(Table))) {
      throw Error(codes::kFileVersion, base_name(path) + ": expected a file of " + std::to_string(sizeof(Table)) +
                                           " bytes, found " +
                                           (S_ISREG(status.st_mode) ? std::to_string(bytes) : "another kind of file") +
                                           "; remove it (what keys have used today is then forgotten)");
    }
    if (bytes == 0) {
      // A page that has no place on the disk would be a crash when it is first written.
      if (const int error = allocate(descriptor, sizeof(Table)); error != 0) {
        (void)!::ftruncate(descriptor, 0);  // what is there of it is of no use
        fail(path, "cannot be made", error);
      }
    }
  }
  const int flags = descriptor >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  void* mapped = ::mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, flags, descriptor, 0);
  if (mapped == MAP_FAILED) fail(path, "cannot be mapped", errno);
  std::shared_ptr<KeyUsage> usage(new KeyUsage(mapped));
  uint64_t found = 0;
  if (!usage->table_->magic.compare_exchange_strong(found, kMagic) && found != kMagic) {
    throw Error(codes::kFileVersion, base_name(path) + ": is no file of what keys have used; remove it");
  }
  return usage;
}

KeyUsage::KeyUsage(void* mapped) : table_(static_cast<Table*>(mapped)) {}

KeyUsage::~KeyUsage() { (void)::munmap(table_, sizeof(Table)); }

KeyUsage::Slot& KeyUsage::slot_of(uint64_t key, const Request& request) {
  const uint64_t home = (key * 0x9e3779b97f4a7c15) >> 46;  // Fibonacci hashing: the upper 18 bits
  static_assert(kSlots == uint32_t{1} << 18);
  const auto at = [&](uint32_t step) -> Slot& { return table_->slots[(home + step) % kSlots]; };
  for (uint32_t step = 0; step < kWindow; ++step) {
    if (at(step).key.load(std::memory_order_relaxed) == key) return at(step);
  }
  for (uint32_t step = 0; step < kWindow; ++step) {
    Slot& slot = at(step);
    uint64_t found = 0;
    if (slot.key.compare_exchange_strong(found, key) || found == key) return slot;
  }
  // One whose bucket is full and that has used nothing today is as good as forgotten. A request of its key that is just
  // being counted is counted for another: one, once in the life of a key.
  for (uint32_t step = 0; step < kWindow; ++step) {
    Slot& slot = at(step);
    uint64_t found = slot.key.load();
    const bool is_idle = slot.full_at.load() <= request.now_ns && count_on(slot.counted.load(), request.day) == 0;
    if (found == key || (is_idle && (slot.key.compare_exchange_strong(found, key) || found == key))) return slot;
  }
  throw Error(codes::kInternal, "there is no room left to count what keys use today");
}

KeyUsage::Answer KeyUsage::take(uint64_t key, const Request& request) {
  Slot& slot = slot_of(key, request);
  int64_t taken = 0;
  if (request.rate > 0) {
    const double interval = 1e9 / request.rate;
    const double burst = std::max(1.0, request.rate);
    const double debt_max = burst + static_cast<double>(request.debt_max);
    const auto time_of = [&](double requests) { return static_cast<int64_t>(std::min(kTimeMax, requests * interval)); };
    taken = time_of(static_cast<double>(request.cost));
    int64_t full_at = slot.full_at.load();
    for (;;) {
      const int64_t from = std::clamp(full_at, request.now_ns, request.now_ns + time_of(debt_max));
      // A debt that cannot be is gone for good, though this request may be refused.
      if (from < full_at && !slot.full_at.compare_exchange_weak(full_at, from)) continue;
      if (from < full_at) full_at = from;
      const double left = burst - static_cast<double>(from - request.now_ns) / interval;
      if (left < 1 && !request.is_more) return {.wait_seconds = (1 - left) / request.rate};
      if (slot.full_at.compare_exchange_weak(full_at, from + taken)) break;
    }
  }
  if (request.quota > 0) {
    uint64_t word = slot.counted.load();
    uint64_t used = 0;
    do {
      used = count_on(word, request.day);
      if (used + request.cost > request.quota) {
        slot.full_at.fetch_sub(taken);  // refused as a whole
        return {.over_quota = true, .used_today = used};
      }
    } while (!slot.counted.compare_exchange_weak(word, word_of(request.day, used + request.cost)));
  }
  return {};
}

}  // namespace belfry
