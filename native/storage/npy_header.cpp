#include "storage/npy_header.hpp"

#include <cstring>

#include "core/error.hpp"

namespace belfry {

namespace {

constexpr const char* kSupported = "supported: f2, f4, f8, i1, i2, i4, i8, u1, u2, u4, u8";

constexpr size_t kStringMax = 64;

// Reads the one Python dict literal that NumPy writes, and nothing else of Python.
class HeaderParser {
 public:
  HeaderParser(const char* text, size_t count, size_t text_offset, const std::string& name)
      : text_(text), count_(count), text_offset_(text_offset), name_(name) {}

  void parse(NpyHeader& header) {
    for (size_t i = 0; i < count_; ++i) {
      const auto byte = static_cast<unsigned char>(text_[i]);
      if (byte >= 0x80) fail_at(i, "expected ASCII text, found byte " + std::to_string(byte));
    }
    bool seen_descr = false, seen_order = false, seen_shape = false;
    expect('{', "a header dict");
    while (peek() != '}') {
      const size_t key_at = at_;
      const std::string key = quoted("a key in single quotes");
      expect(':', "':' after the key");
      if (key == "descr") {
        once(seen_descr, key, key_at);
        parse_descr(header);
      } else if (key == "fortran_order") {
        once(seen_order, key, key_at);
        header.fortran_order = boolean();
      } else if (key == "shape") {
        once(seen_shape, key, key_at);
        parse_shape(header);
      } else {
        fail_at(key_at, "unknown key '" + key + "'; expected descr, fortran_order and shape");
      }
      if (peek() != ',') break;
      ++at_;
    }
    expect('}', "',' or '}'");
    if (!seen_descr) fail("missing key 'descr'");
    if (!seen_order) fail("missing key 'fortran_order'");
    if (!seen_shape) fail("missing key 'shape'");
    skip_space();
    if (at_ != count_) fail("expected only spaces and a newline after the dict");
  }

 private:
  [[noreturn]] void fail_at(size_t at, const std::string& why) const {
    throw Error(codes::kNpyInvalid,
                name_ + ": invalid .npy header at byte " + std::to_string(text_offset_ + at) + ": " + why);
  }
  [[noreturn]] void fail(const std::string& why) const { fail_at(at_, why); }
  [[noreturn]] void unsupported(const std::string& what) const {
    throw Error(codes::kNpyUnsupported, name_ + ": dtype " + what + " is not supported; " + kSupported);
  }

  void skip_space() {
    while (at_ < count_ && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  char peek() {
    skip_space();
    return at_ < count_ ? text_[at_] : '\0';
  }
  void expect(char wanted, const char* what) {
    if (peek() != wanted) fail(std::string("expected ") + what);
    ++at_;
  }
  void once(bool& seen, const std::string& key, size_t at) const {
    if (seen) fail_at(at, "key '" + key + "' stands twice");
    seen = true;
  }
  std::string quoted(const char* what) {
    if (peek() == '"') fail("double quotes; NumPy writes single ones");
    expect('\'', what);
    const size_t start = at_;
    while (at_ < count_ && text_[at_] != '\'') {
      const bool printable = text_[at_] >= ' ' && text_[at_] <= '~';
      if (!printable || text_[at_] == '\\') fail("expected a plain string");
      ++at_;
    }
    if (at_ == count_) fail("a string without an end");
    // It may come back in a message, and NumPy's are a few characters long.
    if (at_ - start > kStringMax) fail_at(start, "a string of more than " + std::to_string(kStringMax) + " characters");
    return std::string(text_ + start, at_++ - start);
  }
  bool boolean() {
    (void)peek();
    for (const bool value : {true, false}) {
      const char* word = value ? "True" : "False";
      const size_t length = std::strlen(word);
      if (count_ - at_ >= length && std::memcmp(text_ + at_, word, length) == 0) {
        at_ += length;
        return value;
      }
    }
    fail("expected True or False");
  }

  void parse_descr(NpyHeader& header) {
    if (peek() == '[' || peek() == '(') unsupported("'structured'");
    const size_t start = at_;
    const std::string descr = quoted("a dtype in single quotes");
    if (descr.size() < 2 || std::string("<>|=").find(descr[0]) == std::string::npos) {
      fail_at(start, "expected a dtype such as '<f4', found '" + descr + "'");
    }
    const char kind = descr[1];
    const std::string size = descr.substr(2);
    if (kind == 'O') unsupported("'" + descr + "' (Python objects)");
    if (kind == 'b') unsupported("'" + descr + "' (bool)");
    if (kind == 'c') unsupported("'" + descr + "' (complex)");
    if (kind == 'S' || kind == 'U' || kind == 'a') unsupported("'" + descr + "' (strings)");
    if (kind == 'V') unsupported("'" + descr + "' (structured)");
    const bool is_float = kind == 'f' && (size == "2" || size == "4" || size == "8");
    const bool is_integer = (kind == 'i' || kind == 'u') && (size == "1" || size == "2" || size == "4" || size == "8");
    if (!is_float && !is_integer) unsupported("'" + descr + "'");
    if (descr[0] == '|' && size != "1") fail_at(start, "dtype '" + descr + "' lacks a byte order");
    header.kind = kind;
    header.item_bytes = static_cast<uint32_t>(size[0] - '0');
    header.big_endian = descr[0] == '>' && size != "1";
  }

  void parse_shape(NpyHeader& header) {
    expect('(', "'(' of the shape");
    while (peek() != ')') {
      const size_t start = at_;
      if (peek() == '-') fail("shape: expected sizes of 0 or more, found a negative one");
      uint64_t size = 0;
      while (at_ < count_ && text_[at_] >= '0' && text_[at_] <= '9') {
        const auto digit = static_cast<uint64_t>(text_[at_] - '0');
        if (__builtin_mul_overflow(size, uint64_t{10}, &size) || __builtin_add_overflow(size, digit, &size)) {
          fail_at(start, "shape: a size beyond 2^64");
        }
        ++at_;
      }
      if (at_ == start) fail("shape: expected an integer");
      const char next = peek();
      if (next != ',' && next != ')') fail("shape: expected an integer, ',' or ')'");
      header.shape.push_back(size);
      if (header.shape.size() > 32) fail_at(start, "shape: more than 32 dimensions");
      if (next != ',') {
        // Python reads (5) as a number; NumPy always writes (5,).
        if (header.shape.size() == 1) fail("shape: a tuple of one needs a comma: (n,)");
        break;
      }
      ++at_;
    }
    expect(')', "')' of the shape");
    uint64_t items = 1;
    bool empty = false;
    for (uint64_t size : header.shape) {
      if (size == 0) {
        empty = true;
      } else if (__builtin_mul_overflow(items, size, &items)) {
        fail("shape: the product of the sizes passes 2^64");
      }
    }
    // The largest item has 8 bytes; file offsets are signed.
    if (!empty && items > (uint64_t{1} << 60)) fail("shape: the product of the sizes passes 2^60");
  }

  const char* text_;
  size_t count_;
  size_t text_offset_;
  const std::string& name_;
  size_t at_ = 0;
};

}  // namespace

uint64_t NpyHeader::items() const noexcept {
  uint64_t items = 1;
  for (uint64_t size : shape) {
    if (size == 0) return 0;
    items *= size;
  }
  return items;
}

NpyHeader parse_npy_header(const unsigned char* bytes, size_t count, const std::string& name) {
  const auto fail = [&](size_t at, const std::string& why) -> Error {
    return Error(codes::kNpyInvalid, name + ": invalid .npy header at byte " + std::to_string(at) + ": " + why);
  };
  constexpr unsigned char kMagic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
  for (size_t i = 0; i < sizeof kMagic; ++i) {
    if (i >= count || bytes[i] != kMagic[i]) {
      throw fail(i, "expected the magic \\x93NUMPY; this is not a .npy file");
    }
  }
  if (count < 8) throw fail(count, "the file ends inside its version");
  NpyHeader header;
  header.version = bytes[6];
  if (bytes[6] < 1 || bytes[6] > 3 || bytes[7] != 0) {
    throw fail(6, "expected format version 1.0, 2.0 or 3.0, found " + std::to_string(bytes[6]) + "." +
                      std::to_string(bytes[7]));
  }
  const size_t length_bytes = bytes[6] == 1 ? 2 : 4;
  const size_t text_offset = 8 + length_bytes;
  if (count < text_offset) throw fail(count, "the file ends inside its header length");
  uint64_t length = 0;
  for (size_t i = 0; i < length_bytes; ++i) length |= uint64_t{bytes[8 + i]} << (8 * i);
  if (length > kNpyHeaderMax) {
    throw fail(8, "a header of " + std::to_string(length) + " bytes; the limit is " + std::to_string(kNpyHeaderMax));
  }
  if (count < text_offset + length) {
    throw fail(count, "the file ends inside its header of " + std::to_string(length) + " bytes");
  }
  header.data_offset = text_offset + length;
  HeaderParser(reinterpret_cast<const char*>(bytes) + text_offset, length, text_offset, name).parse(header);
  return header;
}

std::string format_npy_header(char kind, uint32_t item_bytes, uint64_t rows, uint64_t dims) {
  std::string text = "{'descr': '<" + std::string(1, kind) + std::to_string(item_bytes) +
                     "', 'fortran_order': False, 'shape': (" + std::to_string(rows) + ", " + std::to_string(dims) +
                     "), }";
  const size_t before = 10;
  text.resize((before + text.size() + 1 + 63) / 64 * 64 - before, ' ');
  text.back() = '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out.push_back(static_cast<char>(text.size() & 0xff));
  out.push_back(static_cast<char>(text.size() >> 8));
  return out + text;
}

}  // namespace belfry
