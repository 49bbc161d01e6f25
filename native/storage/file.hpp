#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace belfry {

// The file name without its folder: messages may reach people who must not learn paths.
std::string base_name(const std::string& path);

// An open descriptor. Reads are positional and complete; errors carry a code and the file's name.
class File {
 public:
  // What tells one state of a file from another.
  struct Stamp {
    uint64_t device = 0, inode = 0, bytes = 0;
    int64_t modified_ns = 0;
    bool operator==(const Stamp&) const = default;
  };

  static File open_read(const std::string& path);
  static File create(const std::string& path);
  // A file that must not be there yet; messages name `shown` instead.
  static File create_new(const std::string& path, const std::string& shown);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  const std::string& path() const noexcept { return path_; }
  int descriptor() const noexcept { return descriptor_; }
  Stamp stamp() const;
  // Throws BELFRY_FILE_CHANGED when the file ends before offset + count.
  void read(void* to, size_t count, uint64_t offset) const;
  // Appends. Throws BELFRY_DISK_SPACE when the disk is full.
  void write(const void* from, size_t count);
  void sync();
  void close() noexcept;
  // Throws BELFRY_FILE_CHANGED unless the path still leads to the file as it was at `opened`.
  void check_unchanged(const Stamp& opened) const;

 private:
  File(int descriptor, std::string path);

  int descriptor_ = -1;
  std::string path_;
};

// Whether the open file of this descriptor now holds its advisory lock (flock), alone or shared with others; false when
// another open file forbids it. Given up when the descriptor is closed, by a kill too. Throws BELFRY_FILE_UNREADABLE
// where the file system has no locks.
bool try_lock_file(int descriptor, bool shared);

// A file that appears under its name whole or not at all: written beside it, synced, renamed, and the folder synced.
// What was not published is removed. Errors are those of File::write.
class NewFile {
 public:
  explicit NewFile(const std::string& path);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();

  void write(const void* from, size_t count) { file_.write(from, count); }
  void publish();

 private:
  std::string path_, temporary_;  // temporary_ is empty once there is none
  File file_;
};

}  // namespace belfry
