#include "kernels/cpu.hpp"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace belfry {

namespace {

struct Detected {
  CpuInfo info;
  bool avx2 = false;
  bool avxvnni = false;
  bool avx512vnni = false;
  bool amx = false;
};

#if defined(__x86_64__)

struct Leaf {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Leaf cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Leaf out;
  if (__get_cpuid_count(leaf, subleaf, &out.a, &out.b, &out.c, &out.d) == 0) return {};
  return out;
}

// Which register states the operating system saves; without its bit, a wide register is lost at a thread switch.
uint64_t saved_states() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

std::string text_of(const uint32_t* words, size_t count) {
  std::string text(reinterpret_cast<const char*>(words), count * 4);
  text.resize(std::strlen(text.c_str()));
  const size_t first = text.find_first_not_of(' ');
  const size_t last = text.find_last_not_of(' ');
  return first == std::string::npos ? std::string{} : text.substr(first, last - first + 1);
}

// Linux gives the 8 KiB tile state only to a process that asks for it.
bool tile_permission() {
#if defined(__linux__)
  constexpr long kRequest = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;     // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

Detected detect() {
  Detected out;
  const Leaf zero = cpuid(0);
  const uint32_t vendor[3] = {zero.b, zero.d, zero.c};
  out.info.vendor = text_of(vendor, 3);
  uint32_t brand[12] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const Leaf leaf = cpuid(0x80000002U + i);
    const uint32_t words[4] = {leaf.a, leaf.b, leaf.c, leaf.d};
    std::memcpy(brand + 4 * i, words, sizeof words);
  }
  out.info.model = text_of(brand, 12);

  const Leaf one = cpuid(1), seven = cpuid(7), seven1 = cpuid(7, 1);
  const auto bit = [&](uint32_t word, uint32_t index, const char* name) {
    const bool present = ((word >> index) & 1U) != 0;
    if (present) out.info.features.emplace_back(name);
    return present;
  };
  const bool fma = bit(one.c, 12, "fma");
  const bool f16c = bit(one.c, 29, "f16c");
  const bool avx2 = bit(seven.b, 5, "avx2");
  const bool avx_vnni = bit(seven1.a, 4, "avx_vnni");
  const bool f = bit(seven.b, 16, "avx512f"), dq = bit(seven.b, 17, "avx512dq");
  const bool bw = bit(seven.b, 30, "avx512bw"), vl = bit(seven.b, 31, "avx512vl");
  const bool vnni = bit(seven.c, 11, "avx512_vnni");
  const bool amx_tile = bit(seven.d, 24, "amx_tile"), amx_int8 = bit(seven.d, 25, "amx_int8");

  const bool os_saves = ((one.c >> 27) & 1U) != 0;
  const uint64_t states = os_saves ? saved_states() : 0;
  const bool ymm = (states & 0x6) == 0x6, zmm = (states & 0xe6) == 0xe6, tiles = (states & 0x60000) == 0x60000;
  out.avx2 = ymm && avx2 && fma && f16c;
  out.avxvnni = out.avx2 && avx_vnni;
  out.avx512vnni = zmm && out.avx2 && f && dq && bw && vl && vnni;
  out.amx = tiles && out.avx512vnni && amx_tile && amx_int8 && tile_permission();
  return out;
}

#else

Detected detect() {
  Detected out;
  out.info.vendor = "unknown";
  out.info.model = "unknown";
  return out;
}

#endif

const Detected& detected() {
  static const Detected* once = new Detected(detect());  // never destroyed: pool threads may outlive main()
  return *once;
}

}  // namespace

const CpuInfo& cpu_info() { return detected().info; }

const std::vector<const KernelTable*>& available_kernels() {
  static const auto* tables = [] {
    auto* list = new std::vector<const KernelTable*>();
#if defined(BELFRY_HAS_AMX)
    if (detected().amx) list->push_back(&kernels::amx::table());
#endif
#if defined(BELFRY_HAS_AVX512VNNI)
    if (detected().avx512vnni) list->push_back(&kernels::avx512vnni::table());
#endif
#if defined(BELFRY_HAS_AVXVNNI)
    if (detected().avxvnni) list->push_back(&kernels::avxvnni::table());
#endif
#if defined(BELFRY_HAS_AVX2)
    if (detected().avx2) list->push_back(&kernels::avx2::table());
#endif
    list->push_back(&kernels::portable::table());
    return list;
  }();
  return *tables;
}

}  // namespace belfry
