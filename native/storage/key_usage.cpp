#include "storage/key_usage.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "storage/file.hpp"

namespace belfry {

namespace {

constexpr uint64_t kMagic = 0x3145474153554c42;  // "BLUSAGE1" on disk
// The count of a day and the day, modulo 2^14 (45 years), in one word.
constexpr int kCountBits = 50;
constexpr uint64_t kCountMask = (uint64_t{1} << kCountBits) - 1;
constexpr uint64_t kDayMask = (uint64_t{1} << (64 - kCountBits)) - 1;

// Three years and thirty: what slow keys and large batches add up to ends here, and sums stay far from overflow.
constexpr double kTakenMax = 1e17;
constexpr int64_t kDebtMax = 1'000'000'000'000'000'000;

uint64_t count_on(uint64_t word, uint64_t day) {
  return word >> kCountBits == (day & kDayMask) ? word & kCountMask : 0;
}
uint64_t word_of(uint64_t day, uint64_t count) { return (day & kDayMask) << kCountBits | count; }

[[noreturn]] void fail(const std::string& path, const char* what, int error) {
  const bool is_full = error == ENOSPC || error == EDQUOT;
  throw Error(is_full ? codes::kDiskSpace : codes::kFileUnreadable, base_name(path) + ": " + what + ": " +
                                                                        std::generic_category().message(error) +
                                                                        (is_full ? "; free space and retry" : ""));
}

}  // namespace

struct KeyUsage::Slot {
  std::atomic<uint64_t> key;      // 0: free
  std::atomic<int64_t> full_at;   // nanoseconds of the monotonic clock
  std::atomic<uint64_t> counted;  // word_of
};

struct KeyUsage::Table {
  std::atomic<uint64_t> magic;
  Slot slots[kSlots];
};

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free);

std::shared_ptr<KeyUsage> KeyUsage::open(const std::string& path, bool first, uint64_t day) {
  int descriptor = -1;
  if (!path.empty()) {
    descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
    if (descriptor < 0) fail(path, "cannot be opened", errno);
  }
  // Closed on every way out: the mapping holds the file by itself.
  const struct Closer {
    int descriptor;
    ~Closer() {
      if (descriptor >= 0) (void)::close(descriptor);
    }
  } closer{descriptor};
  if (descriptor >= 0) {
    struct stat status {};
    if (::fstat(descriptor, &status) != 0) fail(path, "cannot be examined", errno);
    const auto bytes = static_cast<uint64_t>(status.st_size);
    if (!S_ISREG(status.st_mode) || (bytes != 0 && bytes != sizeof(Table))) {
      throw Error(codes::kFileVersion, base_name(path) + ": expected a file of " + std::to_string(sizeof(Table)) +
                                           " bytes, found " +
                                           (S_ISREG(status.st_mode) ? std::to_string(bytes) : "another kind of file") +
                                           "; remove it (what keys have used today is then forgotten)");
    }
    if (::ftruncate(descriptor, sizeof(Table)) != 0) fail(path, "cannot be made", errno);
#if defined(__linux__)
    // A page that has no place on the disk would be a crash when it is first written.
    if (const int error = ::posix_fallocate(descriptor, 0, sizeof(Table)); error != 0)
      fail(path, "cannot be made", error);
#endif
  }
  const int flags = descriptor >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  void* mapped = ::mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, flags, descriptor, 0);
  if (mapped == MAP_FAILED) fail(path, "cannot be mapped", errno);
  std::shared_ptr<KeyUsage> usage(new KeyUsage(mapped));
  uint64_t found = 0;
  if (!usage->table_->magic.compare_exchange_strong(found, kMagic) && found != kMagic) {
    throw Error(codes::kFileVersion, base_name(path) + ": is no file of what keys have used; remove it");
  }
  if (first) usage->forget_days_before(day);
  return usage;
}

KeyUsage::KeyUsage(void* mapped) : table_(static_cast<Table*>(mapped)) {}

KeyUsage::~KeyUsage() { (void)::munmap(table_, sizeof(Table)); }

void KeyUsage::forget_days_before(uint64_t day) {
  std::vector<std::pair<uint64_t, uint64_t>> kept;
  for (Slot& slot : table_->slots) {
    const uint64_t key = slot.key.load();
    if (key == 0) continue;
    const uint64_t counted = slot.counted.load();
    if (count_on(counted, day) > 0) kept.emplace_back(key, counted);
    slot.key = 0;
    slot.full_at = 0;
    slot.counted = 0;
  }
  for (const auto& [key, counted] : kept) slot_of(key).counted = counted;
}

KeyUsage::Slot& KeyUsage::slot_of(uint64_t key) {
  uint64_t at = (key * 0x9e3779b97f4a7c15) >> 46;  // Fibonacci hashing: the upper 18 bits
  static_assert(kSlots == uint32_t{1} << 18);
  for (uint32_t tries = 0; tries < kSlots; ++tries, at = (at + 1) % kSlots) {
    Slot& slot = table_->slots[at];
    uint64_t found = slot.key.load(std::memory_order_relaxed);
    if (found == key) return slot;
    if (found == 0 && (slot.key.compare_exchange_strong(found, key) || found == key)) return slot;
  }
  throw Error(codes::kInternal, "the table of what keys have used is full; restart the server");
}

KeyUsage::Answer KeyUsage::take(uint64_t key, const Request& request) {
  Slot& slot = slot_of(key);
  int64_t taken = 0;
  if (request.rate > 0) {
    const double interval = 1e9 / request.rate;
    const double burst = std::max(1.0, request.rate);
    taken = static_cast<int64_t>(std::min(kTakenMax, static_cast<double>(request.cost) * interval));
    int64_t full_at = slot.full_at.load();
    do {
      const double debt = static_cast<double>(std::max<int64_t>(0, full_at - request.now_ns)) / interval;
      if (burst - debt < 1 && !request.is_more) return {.wait_seconds = (1 - (burst - debt)) / request.rate};
    } while (!slot.full_at.compare_exchange_weak(
        full_at, std::min(std::max(full_at, request.now_ns) + taken, request.now_ns + kDebtMax)));
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
