// What keys have used, counted by several openers of one file.
#include "storage/key_usage.hpp"

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "core/error.hpp"

namespace {

int allocation_error = 0;

}  // namespace

// Replaced at link time (--wrap).
extern "C" {
int __real_posix_fallocate(int descriptor, off_t offset, off_t length);
int __wrap_posix_fallocate(int descriptor, off_t offset, off_t length) {
  return allocation_error != 0 ? allocation_error : __real_posix_fallocate(descriptor, offset, length);
}
}

namespace {

using namespace belfry;

constexpr uint64_t kDay = 20'780;
constexpr int64_t kNow = 5'000'000'000;

struct Folder {
  char path[32] = "/tmp/belfry-usage-XXXXXX";
  Folder() { CHECK(mkdtemp(path) != nullptr); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file() const { return std::string(path) + "/key-usage"; }
};

std::string outcome_of(const std::string& path) {
  try {
    KeyUsage::open(path);
    return "opened";
  } catch (const Error& error) {
    return std::string(error.code()) + ": " + error.message();
  }
}

TEST(key_usage_is_one_count_for_all_who_have_the_file_open) {
  constexpr int kOpeners = 4, kKeys = 50, kTries = 2'000;
  const Folder folder;
  std::atomic<int> by_quota{0}, by_rate{0};
  std::vector<std::thread> openers;
  for (int opener = 0; opener < kOpeners; ++opener) {
    openers.emplace_back([&] {
      const auto usage = KeyUsage::open(folder.file());
      for (int i = 0; i < kTries; ++i) {
        const auto key = static_cast<uint64_t>(1 + i % kKeys);
        if (!usage->take(key, {.quota = 70, .now_ns = kNow, .day = kDay}).over_quota) ++by_quota;
        if (usage->take(key + kKeys, {.rate = 30, .now_ns = kNow, .day = kDay}).wait_seconds == 0) ++by_rate;
      }
    });
  }
  for (std::thread& opener : openers) opener.join();
  CHECK_MESSAGE(by_quota == 70 * kKeys, std::to_string(by_quota));
  CHECK_MESSAGE(by_rate == 30 * kKeys, std::to_string(by_rate));
}

TEST(key_usage_takes_as_a_whole_or_not_at_all) {
  const auto usage = KeyUsage::open("");
  KeyUsage::Request request{.cost = 2, .rate = 10, .quota = 5, .now_ns = kNow, .day = kDay};
  CHECK(!usage->take(7, request).over_quota);
  request.cost = 4;
  const KeyUsage::Answer refused = usage->take(7, request);
  CHECK(refused.over_quota && refused.used_today == 2);
  // The bucket of ten has given two: eight are left, though four more were asked for in vain.
  request.quota = 0;
  request.cost = 1;
  for (int i = 0; i < 8; ++i) CHECK(usage->take(7, request).wait_seconds == 0);
  CHECK(usage->take(7, request).wait_seconds > 0);
}

TEST(key_usage_stays_in_range_whatever_is_asked) {
  const auto usage = KeyUsage::open("");
  const KeyUsage::Request slow{.cost = 4'000'000'000, .is_more = true, .rate = 1e-9, .now_ns = kNow, .day = kDay};
  for (int i = 0; i < 1'000; ++i) CHECK(usage->take(9, slow).wait_seconds == 0);
  CHECK(usage->take(9, {.rate = 1e-9, .now_ns = kNow, .day = kDay}).wait_seconds > 0);
  const KeyUsage::Request most{.cost = 1'000'000'000'000'000, .quota = 1'000'000'000'000'000, .day = kDay};
  CHECK(!usage->take(11, most).over_quota);
  CHECK(usage->take(11, {.quota = 1'000'000'000'000'000, .day = kDay}).used_today == 1'000'000'000'000'000);
}

TEST(key_usage_outlives_its_processes) {
  const Folder folder;
  KeyUsage::Request one{.rate = 1, .quota = 3, .now_ns = kNow, .day = kDay};
  KeyUsage::open(folder.file())->take(3, one);
  const auto again = KeyUsage::open(folder.file());
  CHECK(again->take(3, one).wait_seconds > 0);
  one.now_ns += 1'000'000'000;
  CHECK(again->take(3, one).wait_seconds == 0);
  CHECK(!again->take(3, {.quota = 3, .now_ns = kNow, .day = kDay}).over_quota);
  CHECK(again->take(3, {.quota = 3, .now_ns = kNow, .day = kDay}).used_today == 3);
  CHECK(!again->take(3, {.cost = 3, .quota = 3, .now_ns = kNow, .day = kDay + 1}).over_quota);
}

// Whatever was taken at another rate, or by a machine whose clock is ahead.
TEST(key_usage_owes_no_more_than_a_batch) {
  const auto usage = KeyUsage::open("");
  const int64_t year = 31'536'000'000'000'000;
  CHECK(usage->take(5, {.rate = 10, .debt_max = 256, .now_ns = kNow + year}).wait_seconds == 0);
  CHECK(usage->take(5, {.cost = 200, .is_more = true, .rate = 0.1, .debt_max = 256, .now_ns = kNow + year})
            .wait_seconds == 0);
  const double wait = usage->take(5, {.rate = 10, .debt_max = 256, .now_ns = kNow}).wait_seconds;
  CHECK_MESSAGE(wait > 25 && wait < 26, std::to_string(wait));
  const int64_t later = kNow + static_cast<int64_t>(wait * 1e9) + 1;
  CHECK(usage->take(5, {.rate = 10, .debt_max = 256, .now_ns = later}).wait_seconds == 0);
}

TEST(key_usage_finds_room_among_keys_of_other_days) {
  const auto usage = KeyUsage::open("");
  // More keys than slots in all: those of another day give way, and a window in use today is said to be full.
  const KeyUsage::Request old{.quota = 1, .now_ns = kNow, .day = kDay};
  const KeyUsage::Request now{.quota = 1, .now_ns = kNow, .day = kDay + 1};
  for (uint64_t key = 1; key <= KeyUsage::kSlots / 2; ++key) CHECK(!usage->take(key, old).over_quota);
  for (uint64_t key = 1; key <= 100'000; ++key) CHECK(!usage->take(key + KeyUsage::kSlots, now).over_quota);
  for (uint64_t key = 1; key <= 100'000; ++key) CHECK(usage->take(key + KeyUsage::kSlots, now).over_quota);
  std::string what;
  try {
    for (uint64_t key = 1; key <= KeyUsage::kSlots; ++key) usage->take(key + 2 * KeyUsage::kSlots, now);
  } catch (const Error& error) {
    what = error.message();
  }
  CHECK_MESSAGE(what == "there is no room left to count what keys use today", what);
  CHECK(usage->take(KeyUsage::kSlots + 1, now).over_quota);
}

TEST(key_usage_refuses_files_that_are_not_its_own) {
  const Folder folder;
  std::ofstream(folder.file()) << "hello";
  CHECK_MESSAGE(outcome_of(folder.file()).starts_with("BELFRY_FILE_VERSION: key-usage: expected a file of 6291"),
                outcome_of(folder.file()));
  std::filesystem::remove(folder.file());
  allocation_error = ENOSPC;
  const std::string full = outcome_of(folder.file());
  allocation_error = 0;
  CHECK_MESSAGE(full.starts_with("BELFRY_DISK_SPACE: key-usage: cannot be made: "), full);
  CHECK_MESSAGE(outcome_of(folder.file()) == "opened", outcome_of(folder.file()));
  std::fstream(folder.file(), std::ios::in | std::ios::out | std::ios::binary) << "NOTOURS!";
  CHECK_MESSAGE(
      outcome_of(folder.file()) == "BELFRY_FILE_VERSION: key-usage: is no file of what keys have used; remove it",
      outcome_of(folder.file()));
  CHECK_MESSAGE(outcome_of(folder.path).starts_with("BELFRY_FILE_UNREADABLE: "), outcome_of(folder.path));
  CHECK_MESSAGE(outcome_of(folder.file() + "/below").starts_with("BELFRY_FILE_UNREADABLE: below: cannot be opened: "),
                outcome_of(folder.file() + "/below"));
}

}  // namespace
