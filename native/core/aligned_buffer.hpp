#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace belfry {

// Zeroed memory on a 64-byte border; large buffers sit on 2 MiB borders and ask for huge pages (fewer TLB misses in a
// scan). T must be trivial.
template <class T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t count) : count_(count) {
    if (count == 0) return;
    constexpr size_t kHuge = size_t{2} << 20;
    size_t bytes = count * sizeof(T);
    size_t border = bytes >= kHuge ? kHuge : 64;
    bytes = (bytes + border - 1) / border * border;
    data_ = static_cast<T*>(std::aligned_alloc(border, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (border == kHuge) (void)madvise(data_, bytes, MADV_HUGEPAGE);  // advice: refusal changes speed only
#endif
    std::memset(static_cast<void*>(data_), 0, bytes);
  }
  // The memory of somebody else, kept alive by `owner`. It may be write-protected: only to be read.
  static AlignedBuffer borrow(const T* data, size_t count, std::shared_ptr<const void> owner) {
    AlignedBuffer buffer;
    buffer.data_ = const_cast<T*>(data);
    buffer.count_ = count;
    buffer.owner_ = std::move(owner);
    return buffer;
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        count_(std::exchange(other.count_, 0)),
        owner_(std::move(other.owner_)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    std::swap(owner_, other.owner_);
    return *this;
  }
  ~AlignedBuffer() {
    if (owner_ == nullptr) std::free(data_);
  }

  T* data() noexcept { return data_; }
  const T* data() const noexcept { return data_; }
  size_t size() const noexcept { return count_; }
  size_t bytes() const noexcept { return count_ * sizeof(T); }
  T& operator[](size_t i) noexcept { return data_[i]; }
  const T& operator[](size_t i) const noexcept { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
  std::shared_ptr<const void> owner_;  // null: our own memory
};

}  // namespace belfry
