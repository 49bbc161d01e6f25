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
    KeyUsage::open(path, false, kDay);
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
      const auto usage = KeyUsage::open(folder.file(), false, kDay);
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
  const auto usage = KeyUsage::open("", true, kDay);
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
  const auto usage = KeyUsage::open("", true, kDay);
  const KeyUsage::Request slow{.cost = 4'000'000'000, .is_more = true, .rate = 1e-9, .now_ns = kNow, .day = kDay};
  for (int i = 0; i < 1'000; ++i) CHECK(usage->take(9, slow).wait_seconds == 0);
  CHECK(usage->take(9, {.rate = 1e-9, .now_ns = kNow, .day = kDay}).wait_seconds > 0);
  const KeyUsage::Request most{.cost = 1'000'000'000'000'000, .quota = 1'000'000'000'000'000, .day = kDay};
  CHECK(!usage->take(11, most).over_quota);
  CHECK(usage->take(11, {.quota = 1'000'000'000'000'000, .day = kDay}).used_today == 1'000'000'000'000'000);
}

TEST(key_usage_outlives_a_restart_for_the_day_and_buckets_begin_full) {
  const Folder folder;
  const KeyUsage::Request one{.rate = 1, .quota = 3, .now_ns = kNow, .day = kDay};
  KeyUsage::open(folder.file(), true, kDay)->take(3, one);
  // A worker that is started again forgets nothing.
  CHECK(KeyUsage::open(folder.file(), false, kDay)->take(3, one).wait_seconds > 0);
  // Nor does the server for the day, though its clock may have begun anew.
  const auto again = KeyUsage::open(folder.file(), true, kDay);
  CHECK(again->take(3, one).wait_seconds == 0);
  CHECK(again->take(3, {.quota = 3, .now_ns = kNow, .day = kDay}).over_quota == false);
  CHECK(again->take(3, {.quota = 3, .now_ns = kNow, .day = kDay}).used_today == 3);
  CHECK(!KeyUsage::open(folder.file(), true, kDay + 1)->take(3, {.cost = 3, .quota = 3, .day = kDay + 1}).over_quota);
}

TEST(key_usage_is_full_when_no_slot_is_left) {
  const auto usage = KeyUsage::open("", true, kDay);
  const KeyUsage::Request one{.quota = 1, .day = kDay};
  for (uint64_t key = 1; key <= KeyUsage::kSlots; ++key) CHECK(!usage->take(key, one).over_quota);
  std::string what;
  try {
    usage->take(KeyUsage::kSlots + 1, one);
  } catch (const Error& error) {
    what = error.message();
  }
  CHECK_MESSAGE(what == "the table of what keys have used is full; restart the server", what);
  CHECK(usage->take(1, one).over_quota);
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
