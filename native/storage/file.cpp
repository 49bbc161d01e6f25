#include "storage/file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <system_error>
#include <utility>

#include "core/error.hpp"

namespace belfry {

namespace {

std::string reason(int error) { return std::generic_category().message(error); }

File::Stamp stamp_of(const struct stat& status) {
#if defined(__APPLE__)
  const timespec modified = status.st_mtimespec;
#else
  const timespec modified = status.st_mtim;
#endif
  return {static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino),
          static_cast<uint64_t>(status.st_size),
          static_cast<int64_t>(modified.tv_sec) * 1'000'000'000 + modified.tv_nsec};
}

Error write_error(const std::string& path, int error) {
  if (error == ENOSPC || error == EDQUOT) {
    return Error(codes::kDiskSpace,
                 base_name(path) + ": the disk is full (" + reason(error) + "); free space and retry");
  }
  return Error(codes::kFileUnreadable, base_name(path) + ": cannot be written: " + reason(error));
}

// Random, because a process that was killed may have left the name of its own behind, and its number comes again.
std::string temporary_name(const std::string& path) {
  std::random_device random;
  return path + ".tmp-" + std::to_string(random()) + "-" + std::to_string(random());
}

}  // namespace

std::string base_name(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

File::File(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
File::File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}
File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  return *this;
}
File::~File() { close(); }

void File::close() noexcept {
  if (descriptor_ >= 0) (void)::close(descriptor_);
  descriptor_ = -1;
}

File File::open_read(const std::string& path) {
  // Not blocking: opening a named pipe must not hang; regular files ignore the flag.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    throw Error(codes::kFileUnreadable, base_name(path) + ": cannot be opened: " + reason(errno));
  }
  File file(descriptor, path);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    throw Error(codes::kFileUnreadable, base_name(path) + ": cannot be examined: " + reason(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    throw Error(codes::kFileUnreadable, base_name(path) + ": expected a regular file, found " +
                                            (S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe"));
  }
  return file;
}

File File::create(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) throw write_error(path, errno);
  return File(descriptor, path);
}

File File::create_new(const std::string& path, const std::string& shown) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor < 0) throw write_error(shown, errno);
  return File(descriptor, shown);
}

File::Stamp File::stamp() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    throw Error(codes::kFileUnreadable, base_name(path_) + ": cannot be examined: " + reason(errno));
  }
  return stamp_of(status);
}

void File::read(void* to, size_t count, uint64_t offset) const {
  auto* bytes = static_cast<unsigned char*>(to);
  while (count > 0) {
    const ssize_t got = ::pread(descriptor_, bytes, count, static_cast<off_t>(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      throw Error(codes::kFileUnreadable, base_name(path_) + ": cannot be read: " + reason(errno));
    }
    if (got == 0) {
      throw Error(codes::kFileChanged, base_name(path_) + ": ended at byte " + std::to_string(offset) +
                                           " while it was read; let the export finish, then retry");
    }
    bytes += got;
    offset += static_cast<uint64_t>(got);
    count -= static_cast<size_t>(got);
  }
}

void File::write(const void* from, size_t count) {
  const auto* bytes = static_cast<const unsigned char*>(from);
  while (count > 0) {
    const ssize_t put = ::write(descriptor_, bytes, count);
    if (put < 0) {
      if (errno == EINTR) continue;
      throw write_error(path_, errno);
    }
    if (put == 0) throw write_error(path_, EIO);  // no error and no progress: would be tried for ever
    bytes += put;
    count -= static_cast<size_t>(put);
  }
}

void File::sync() {
  // Never retried: after a failed fsync the kernel may have dropped the dirty pages.
  if (::fsync(descriptor_) != 0) throw write_error(path_, errno);
}

void File::check_unchanged(const Stamp& opened) const {
  struct stat status {};
  const bool same = stamp() == opened && ::stat(path_.c_str(), &status) == 0 && stamp_of(status) == opened;
  if (!same) {
    throw Error(codes::kFileChanged,
                base_name(path_) +
                    ": was replaced, truncated or written to while it was read; let the export finish, "
                    "then retry");
  }
}

bool try_lock_file(int descriptor, bool shared) {
  while (::flock(descriptor, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) throw Error(codes::kFileUnreadable, "the file cannot be locked: " + reason(errno));
  }
  return true;
}

NewFile::NewFile(const std::string& path)
    : path_(path), temporary_(temporary_name(path)), file_(File::create_new(temporary_, path)) {}

NewFile::~NewFile() {
  if (!temporary_.empty()) (void)::unlink(temporary_.c_str());
}

void NewFile::publish() {
  file_.sync();
  file_.close();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) throw write_error(path_, errno);
  temporary_.clear();
  const size_t slash = path_.find_last_of('/');
  const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw write_error(path_, errno);
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  (void)::close(descriptor);
  if (error != 0) throw write_error(path_, error);
}

}  // namespace belfry
