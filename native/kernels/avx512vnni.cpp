// AVX-512 with VNNI: vpdpbusd multiplies 4 unsigned item codes by 4 signed query codes in each of 16 lanes.
#include "kernels/avx512_common.hpp"
#include "kernels/unroll.hpp"

namespace belfry::kernels::avx512vnni {

namespace {

constexpr uint32_t kGroupQueries = 6;                // 24 accumulators, 4 item vectors, 1 query: 29 of 32 registers
constexpr size_t kFetchBytesMax = size_t{16} << 10;  // a third of a 48 KiB L1 cache

inline __m512i broadcast4(const int8_t* from) {
  int32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  return _mm512_set1_epi32(four);
}

// Sums of 64 rows with kQueries queries: 4 x kQueries accumulators in registers, 24 at the most. The tile's codes stay
// in the L1 cache while all queries pass over them. The sums go through memory to the scalar end of the scan: with both
// in one function, GCC runs out of registers and spills in the inner loop.
template <uint32_t kQueries>
[[gnu::noinline]] void tile_dots(const ScanJob& job, uint32_t q, uint32_t row, int32_t (*out)[kTileRows]) {
  const uint32_t groups = job.items.groups;
  const size_t block_bytes = size_t{groups} * 64;
  const uint8_t* codes = job.items.codes + row / kBlockRows * block_bytes;
  const uint8_t* const end = codes + block_bytes;
  const size_t stride = job.query_stride;
  const int8_t* query = job.query_codes + q * stride;
  __m512i sums[kQueries][4];
  unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
    const __m512i offset = _mm512_set1_epi32(job.offsets[q + r.value]);
    unroll<4>([&](auto b) BELFRY_INLINE_BODY { sums[r.value][b.value] = offset; });
  });
  for (; codes != end; codes += 64, query += 4) {
    const __m512i x0 = _mm512_load_si512(codes), x1 = _mm512_load_si512(codes + block_bytes);
    const __m512i x2 = _mm512_load_si512(codes + 2 * block_bytes), x3 = _mm512_load_si512(codes + 3 * block_bytes);
    unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
      const __m512i four = broadcast4(query + r.value * stride);
      sums[r.value][0] = _mm512_dpbusd_epi32(sums[r.value][0], x0, four);
      sums[r.value][1] = _mm512_dpbusd_epi32(sums[r.value][1], x1, four);
      sums[r.value][2] = _mm512_dpbusd_epi32(sums[r.value][2], x2, four);
      sums[r.value][3] = _mm512_dpbusd_epi32(sums[r.value][3], x3, four);
    });
  }
  unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
    unroll<4>([&](auto b)
                  BELFRY_INLINE_BODY { _mm512_store_si512(&out[r.value][16 * b.value], sums[r.value][b.value]); });
  });
}

// One query: codes are read once, in address order, so memory is the limit. Two chains hide the latency of vpdpbusd.
inline __m512i block_dots(const uint8_t* block, const int8_t* query, uint32_t groups, __m512i sum) {
  constexpr size_t kAheadBytes = 4096;
  __m512i other = _mm512_setzero_si512();
  uint32_t g = 0;
  for (; g + 2 <= groups; g += 2) {
    const uint8_t* codes = block + size_t{g} * 64;
    _mm_prefetch(codes + kAheadBytes, _MM_HINT_T0);
    _mm_prefetch(codes + kAheadBytes + 64, _MM_HINT_T0);
    sum = _mm512_dpbusd_epi32(sum, _mm512_load_si512(codes), broadcast4(query + size_t{g} * 4));
    other = _mm512_dpbusd_epi32(other, _mm512_load_si512(codes + 64), broadcast4(query + size_t{g} * 4 + 4));
  }
  if (g < groups) {
    sum = _mm512_dpbusd_epi32(sum, _mm512_load_si512(block + size_t{g} * 64), broadcast4(query + size_t{g} * 4));
  }
  return _mm512_add_epi32(sum, other);
}

template <bool kL2, bool kBound, uint32_t kQueries>
inline void scan_tile(const ScanJob& job, uint32_t q, uint32_t row, uint64_t allowed) {
  alignas(64) int32_t sums[kQueries][kTileRows];
  tile_dots<kQueries>(job, q, row, sums);
  for (uint32_t r = 0; r < kQueries; ++r) {
    const __m512i parts[4] = {_mm512_load_si512(sums[r]), _mm512_load_si512(sums[r] + 16),
                              _mm512_load_si512(sums[r] + 32), _mm512_load_si512(sums[r] + 48)};
    admit_tile<kL2, kBound>(job, q + r, row, allowed, parts);
  }
}

// The hardware prefetcher does not follow four short streams; the next tile's lines arrive while this one is used.
inline void fetch_tile(const ScanJob& job, uint32_t row) {
  const size_t block_bytes = size_t{job.items.groups} * 64;
  const uint8_t* tile = job.items.codes + row / kBlockRows * block_bytes;
  const size_t bytes = 4 * block_bytes < kFetchBytesMax ? 4 * block_bytes : kFetchBytesMax;
  for (size_t byte = 0; byte < bytes; byte += 64) _mm_prefetch(tile + byte, _MM_HINT_T0);
}

template <bool kL2, bool kBound>
void scan(const ScanJob& job) {
  const size_t block_bytes = size_t{job.items.groups} * 64;
  // Groups of 6 queries at the most, as equal as can be: a group of 1 or 2 waits for loads.
  const uint32_t groups = (job.count + kGroupQueries - 1) / kGroupQueries;
  const uint32_t small = groups == 0 ? 0 : job.count / groups;
  const uint32_t larger = groups == 0 ? 0 : job.count % groups;  // groups with one query more
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    const uint64_t allowed = job.allowed == nullptr ? ~uint64_t{0} : job.allowed[(row - job.row_begin) / kTileRows];
    if (allowed == 0) continue;
    if (job.count == 1) {
      __m512i sums[4];
      for (uint32_t b = 0; b < 4; ++b) {
        sums[b] = block_dots(job.items.codes + (row / kBlockRows + b) * block_bytes, job.query_codes, job.items.groups,
                             _mm512_set1_epi32(job.offsets[0]));
      }
      admit_tile<kL2, kBound>(job, 0, row, allowed, sums);
      continue;
    }
    if (row + kTileRows < job.row_end) fetch_tile(job, row + kTileRows);
    uint32_t q = 0;
    for (uint32_t group = 0; group < groups; ++group) {
      const uint32_t count = small + (group < larger ? 1 : 0);
      switch (count) {
        case 6: scan_tile<kL2, kBound, 6>(job, q, row, allowed); break;
        case 5: scan_tile<kL2, kBound, 5>(job, q, row, allowed); break;
        case 4: scan_tile<kL2, kBound, 4>(job, q, row, allowed); break;
        case 3: scan_tile<kL2, kBound, 3>(job, q, row, allowed); break;
        case 2: scan_tile<kL2, kBound, 2>(job, q, row, allowed); break;
        default: scan_tile<kL2, kBound, 1>(job, q, row, allowed); break;
      }
      q += count;
    }
  }
}

void dots(const ScanJob& job, int32_t* out) {
  const uint32_t rows = job.row_end - job.row_begin;
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    for (uint32_t q = 0; q < job.count; ++q) {
      alignas(64) int32_t sums[1][kTileRows];
      tile_dots<1>(job, q, row, sums);
      __builtin_memcpy(out + size_t{q} * rows + (row - job.row_begin), sums, sizeof sums);
    }
  }
}

constexpr KernelTable kTable = {
    "avx512vnni", 4,          {scan<false, false>, scan<true, false>, scan<false, true>, scan<true, true>},
    dots,         score_rows, widen_f16};

}  // namespace

const KernelTable& table() { return kTable; }

}  // namespace belfry::kernels::avx512vnni
