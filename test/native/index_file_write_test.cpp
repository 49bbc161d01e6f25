// What happens when the system refuses, while an index file is written. The calls are replaced at link time (--wrap).
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "check.hpp"
#include "core/error.hpp"
#include "index_file_bytes.hpp"
#include "storage/graph_file.hpp"

namespace {

enum class Call { kNone, kWrite, kSync, kRename };

// Fails call number `after` (from 0) of one kind with `error`; writes before it hand over at most `write_max` bytes.
struct Fault {
  Call call = Call::kNone;
  int after = 0;
  int error = 0;
  size_t write_max = SIZE_MAX;
  int seen = 0;

  bool strikes(Call now) {
    if (now != call || seen++ != after) return false;
    errno = error;
    return true;
  }
};
Fault fault;

}  // namespace

extern "C" {
ssize_t __real_write(int descriptor, const void* from, size_t count);
int __real_fsync(int descriptor);
int __real_rename(const char* from, const char* to);

ssize_t __wrap_write(int descriptor, const void* from, size_t count) {
  if (fault.strikes(Call::kWrite)) return fault.error == 0 ? 0 : -1;
  return __real_write(descriptor, from, count < fault.write_max ? count : fault.write_max);
}
int __wrap_fsync(int descriptor) { return fault.strikes(Call::kSync) ? -1 : __real_fsync(descriptor); }
int __wrap_rename(const char* from, const char* to) {
  return fault.strikes(Call::kRename) ? -1 : __real_rename(from, to);
}
}

namespace {

using namespace belfry;
using namespace belfry::test;

size_t files_in(const std::string& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

struct Attempt {
  std::string outcome;  // code: message
  bool wrote = false;   // the new file is there
};

// Writes a second graph over a first under `next`, and checks that exactly one of the two is there, readable.
Attempt attempt(const Fault& next) {
  char folder[] = "/tmp/belfry-faults-XXXXXX";
  CHECK(mkdtemp(folder) != nullptr);
  const std::string path = std::string(folder) + "/graph.index";
  const Graph before = sample_graph(40, 8, 1), after = sample_graph(50, 8, 2);
  write_graph(path, before, sample_identity(40), "before", 1);
  Attempt result;
  fault = next;
  try {
    write_graph(path, after, sample_identity(50), "after", 1);
  } catch (const Error& error) {
    result.outcome = std::string(error.code()) + ": " + error.what();
  }
  fault = {};
  CHECK_MESSAGE(files_in(folder) == 1, result.outcome);
  try {
    CHECK(read_graph(path, sample_identity(50), LoadMode::kHuge, 1).notes == "after");
    result.wrote = true;
  } catch (const Error&) {
    CHECK(read_graph(path, sample_identity(40), LoadMode::kHuge, 1).notes == "before");
  }
  std::filesystem::remove_all(folder);
  return result;
}

TEST(a_failed_write_leaves_the_old_index_file_and_no_other) {
  struct {
    Call call;
    int error;
    const char* starts;
  } const faults[] = {
      {Call::kWrite, ENOSPC, "BELFRY_DISK_SPACE: graph.index: the disk is full"},
      {Call::kWrite, EDQUOT, "BELFRY_DISK_SPACE: graph.index: the disk is full"},
      {Call::kWrite, EIO, "BELFRY_FILE_UNREADABLE: graph.index: cannot be written"},
      {Call::kWrite, 0, "BELFRY_FILE_UNREADABLE: graph.index: cannot be written"},  // no error and no byte
      {Call::kSync, EIO, "BELFRY_FILE_UNREADABLE: graph.index: cannot be written"},
      {Call::kSync, ENOSPC, "BELFRY_DISK_SPACE: graph.index: the disk is full"},
      {Call::kRename, EACCES, "BELFRY_FILE_UNREADABLE: graph.index: cannot be written"},
  };
  for (const auto& one : faults) {
    const int calls = one.call == Call::kWrite ? 10 : 1;  // a header, and a padding and content for each section
    for (int after = 0; after < calls; ++after) {
      const Attempt result = attempt({one.call, after, one.error});
      CHECK_MESSAGE(result.outcome.rfind(one.starts, 0) == 0, result.outcome);
      CHECK(!result.wrote);
    }
  }
}

TEST(an_index_file_survives_short_writes_and_interruptions) {
  Fault pieces;
  pieces.write_max = 777;
  const Attempt whole = attempt(pieces);
  CHECK_MESSAGE(whole.outcome.empty() && whole.wrote, whole.outcome);
  pieces.call = Call::kWrite;
  pieces.error = EINTR;
  pieces.after = 5;
  const Attempt again = attempt(pieces);
  CHECK_MESSAGE(again.outcome.empty() && again.wrote, again.outcome);
  pieces.error = ENOSPC;
  const Attempt full = attempt(pieces);
  CHECK_MESSAGE(full.outcome.rfind("BELFRY_DISK_SPACE", 0) == 0 && !full.wrote, full.outcome);
}

TEST(a_failed_sync_of_the_folder_is_told) {
  // The file is whole under its name, but a power cut might still take it back.
  const Attempt result = attempt({Call::kSync, 1, EIO});
  CHECK_MESSAGE(result.outcome.rfind("BELFRY_FILE_UNREADABLE: graph.index: cannot be written", 0) == 0, result.outcome);
  CHECK(result.wrote);
}

TEST(what_may_not_be_written_to_an_index_file) {
  const std::string path = "/tmp/belfry-never-written";
  const auto outcome = [&](auto change, const std::string& target) {
    Graph graph = sample_graph(40, 8, 1);
    GraphIdentity identity = sample_identity(40);
    change(graph, identity);
    try {
      write_graph(target, graph, identity, "", 1);
      return std::string("written");
    } catch (const Error& error) {
      return std::string(error.code()) + ": " + error.what();
    }
  };
  const auto expect = [&](const char* starts, auto change) {
    const std::string got = outcome(change, path);
    CHECK_MESSAGE(got.rfind(starts, 0) == 0, got);
    CHECK(!std::filesystem::exists(path));
  };
  expect("BELFRY_INVALID_ARGUMENT: rows: expected 40", [](Graph&, GraphIdentity& i) { i.rows = 41; });
  const char* vectors = "BELFRY_INVALID_ARGUMENT: vectors: expected 1 to 64 printable ASCII characters";
  expect(vectors, [](Graph&, GraphIdentity& i) { i.vectors = ""; });
  expect(vectors, [](Graph&, GraphIdentity& i) { i.vectors = "a b"; });
  expect(vectors, [](Graph&, GraphIdentity& i) { i.vectors.assign(65, 'x'); });
  expect("BELFRY_INVALID_ARGUMENT: index file", [](Graph&, GraphIdentity& i) { i.dims = 0; });
  const char* internal = "BELFRY_INTERNAL: a graph that cannot be written";
  expect(internal, [](Graph& g, GraphIdentity&) { g.neighbours[17] = 40; });
  expect(internal, [](Graph& g, GraphIdentity&) { g.order[3] = g.order[4]; });
  expect(internal, [](Graph& g, GraphIdentity&) { g.entries[0] = 40; });
  expect(internal, [](Graph& g, GraphIdentity&) { g.partition_starts.back() = 39; });
  expect(internal, [](Graph& g, GraphIdentity&) { g.partition_starts.pop_back(); });
  expect(internal, [](Graph& g, GraphIdentity&) { g.degree = 16; });
  const auto nothing = [](Graph&, GraphIdentity&) {};
  CHECK(outcome(nothing, "/tmp/belfry-no-such-folder/x").rfind("BELFRY_FILE_UNREADABLE: x: cannot be written", 0) == 0);
  char folder[] = "/tmp/belfry-faults-XXXXXX";
  CHECK(mkdtemp(folder) != nullptr);
  CHECK(outcome(nothing, folder).rfind("BELFRY_FILE_UNREADABLE", 0) == 0);
  CHECK(files_in(folder) == 0);
  std::filesystem::remove_all(folder);
}

}  // namespace
