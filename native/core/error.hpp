#pragma once

#include <exception>
#include <string>
#include <utility>

namespace belfry {

// The codes of src/errors.ts that native code raises. A code is text so that it crosses the boundary unchanged.
namespace codes {
inline constexpr const char* kInvalidArgument = "BELFRY_INVALID_ARGUMENT";
inline constexpr const char* kDimsMismatch = "BELFRY_DIMS_MISMATCH";
inline constexpr const char* kInvalidQueryVector = "BELFRY_INVALID_QUERY_VECTOR";
inline constexpr const char* kBadVector = "BELFRY_BAD_VECTOR";
inline constexpr const char* kInvalidId = "BELFRY_INVALID_ID";
inline constexpr const char* kNpyInvalid = "BELFRY_NPY_INVALID";
inline constexpr const char* kNpyUnsupported = "BELFRY_NPY_UNSUPPORTED";
inline constexpr const char* kNpySize = "BELFRY_NPY_SIZE";
inline constexpr const char* kFileChanged = "BELFRY_FILE_CHANGED";
inline constexpr const char* kFileUnreadable = "BELFRY_FILE_UNREADABLE";
inline constexpr const char* kFileCorrupt = "BELFRY_FILE_CORRUPT";
inline constexpr const char* kFileVersion = "BELFRY_FILE_VERSION";
inline constexpr const char* kIndexMismatch = "BELFRY_INDEX_MISMATCH";
inline constexpr const char* kDiskSpace = "BELFRY_DISK_SPACE";
inline constexpr const char* kClosed = "BELFRY_CLOSED";
inline constexpr const char* kDeadlineExceeded = "BELFRY_DEADLINE_EXCEEDED";
inline constexpr const char* kInternal = "BELFRY_INTERNAL";
}  // namespace codes

// The one exception type of the core. The message names field, value, limit and cure; the code is for programs.
class Error : public std::exception {
 public:
  Error(const char* code, std::string message, std::string field = {})
      : code_(code), message_(std::move(message)), field_(std::move(field)) {}

  const char* what() const noexcept override { return message_.c_str(); }
  const char* code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  const std::string& field() const noexcept { return field_; }

 private:
  const char* code_;
  std::string message_;
  std::string field_;
};

// `k: expected an integer from 1 to 10000, received 0`, the sentence shape of src/errors.ts.
inline Error invalid_argument(const std::string& field, const std::string& expected, const std::string& received) {
  return Error(codes::kInvalidArgument, field + ": expected " + expected + ", received " + received, field);
}

}  // namespace belfry
