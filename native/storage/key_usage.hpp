#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace belfry {

// What API keys have used: a token bucket and the count of a day each, in memory that all processes with the same file
// open share. Any of them may be killed at any time: each number is one atomic word, right by itself.
//
// The bucket is the virtual scheduling form of a leaky bucket (ITU-T I.371, generic cell rate algorithm): one number,
// the time at which the bucket will be full again. A batch may take it below zero, which later requests wait for. The
// clock is that of the wall, which goes on when the machine starts again; what it may be wrong by is bounded by
// Request::debt_max, and so is what was taken at another rate.
class KeyUsage {
 public:
  // Room in the table for as many keys as a keys file may hold, and for as many again.
  static constexpr uint32_t kSlots = 262'144;
  // A key is in one of so many slots that follow each other.
  static constexpr uint32_t kWindow = 64;

  struct Request {
    uint64_t cost = 1;
    bool is_more = false;   // the rest of a batch whose first request was let through: it is not made to wait
    double rate = 0;        // requests a second; 0: no limit
    uint64_t quota = 0;     // requests a day; 0: no limit
    uint64_t debt_max = 0;  // requests that the largest batch may owe the bucket
    int64_t now_ns = 0;     // since 1970
    uint64_t day = 0;       // since 1970
  };
  // What was asked is taken as a whole or not at all.
  struct Answer {
    double wait_seconds = 0;  // above 0: refused by the rate
    bool over_quota = false;
    uint64_t used_today = 0;  // before this request; when over_quota
  };

  // An empty path: memory of this process alone. Throws BELFRY_FILE_UNREADABLE, BELFRY_FILE_VERSION, BELFRY_DISK_SPACE.
  static std::shared_ptr<KeyUsage> open(const std::string& path);
  KeyUsage(const KeyUsage&) = delete;
  KeyUsage& operator=(const KeyUsage&) = delete;
  ~KeyUsage();

  // `key` is not 0. Throws BELFRY_INTERNAL when the slots that it may have are in use by other keys today.
  Answer take(uint64_t key, const Request& request);

 private:
  struct Slot;
  struct Table;
  explicit KeyUsage(void* mapped);
  Slot& slot_of(uint64_t key, const Request& request);

  Table* table_;
};

}  // namespace belfry
