// AVX-512 with VNNI: vpdpbusd multiplies 4 unsigned item codes by 4 signed query codes in each of 16 lanes.
#include "kernels/avx512_common.hpp"
#include "kernels/pair_avx512.hpp"
#include "kernels/unroll.hpp"
#include "kernels/walk_avx512.hpp"

namespace belfry::kernels::avx512vnni {

namespace {

constexpr uint32_t kGroupQueries = 6;                // 24 accumulators, 4 item vectors, 1 query: 29 of 32 registers
constexpr uint32_t kTileQueriesMin = 4;              // fewer do not repay the interleaving of a tile
constexpr size_t kFetchBytesMax = size_t{16} << 10;  // a third of a 48 KiB L1 cache

inline __m512i broadcast4(const int8_t* from) {
  int32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  return _mm512_set1_epi32(four);
}

// Sums of the rows of job.tile with kQueries queries: 4 x kQueries accumulators in registers, 24 at the most. The tile
// stays in the L1 cache while all queries pass over them. The sums go through memory to the scalar end of the scan:
// with both in one function, GCC runs out of registers and spills in the inner loop.
template <uint32_t kQueries>
[[gnu::noinline]] void tile_dots(const ScanJob& job, uint32_t q, int32_t (*out)[kTileRows]) {
  const size_t block_bytes = tile_block_bytes(job);
  const uint8_t* codes = job.tile;
  const uint8_t* const end = codes + block_bytes;
  const size_t stride = job.items.rows.stride;
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

// The totals of 16 vectors, lane r that of x[r].
inline __m512i totals(const __m512i (&x)[16]) {
  __m512i four[4];  // in each 128-bit lane: a part of the totals of x[4i] .. x[4i+3]
  unroll<4>([&](auto i) BELFRY_INLINE_BODY {
    const __m512i a = x[4 * i.value], b = x[4 * i.value + 1], c = x[4 * i.value + 2], d = x[4 * i.value + 3];
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    four[i.value] = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  });
  const auto add_lanes = [](__m512i a, __m512i b) BELFRY_INLINE_BODY {  // a0+a1, a2+a3, b0+b1, b2+b3
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
  };
  return add_lanes(add_lanes(four[0], four[1]), add_lanes(four[2], four[3]));
}

// Sums of one query with 16 rows that follow each other: straight from the rows, so that each is read once.
inline __m512i row_dots(const uint8_t* rows, size_t stride, const int8_t* query) {
  __m512i sums[16];
  const __m512i first = _mm512_load_si512(query);
  unroll<16>([&](auto r) BELFRY_INLINE_BODY {
    sums[r.value] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_load_si512(rows + r.value * stride), first);
  });
  for (size_t line = 64; line < stride; line += 64) {
    const __m512i next = _mm512_load_si512(query + line);
    unroll<16>([&](auto r) BELFRY_INLINE_BODY {
      sums[r.value] = _mm512_dpbusd_epi32(sums[r.value], _mm512_load_si512(rows + r.value * stride + line), next);
    });
  }
  return totals(sums);
}

template <bool kL2, bool kBound, uint32_t kQueries>
inline void scan_tile(const ScanJob& job, uint32_t q, uint32_t row, uint64_t allowed) {
  alignas(64) int32_t sums[kQueries][kTileRows];
  tile_dots<kQueries>(job, q, sums);
  for (uint32_t r = 0; r < kQueries; ++r) {
    const __m512i parts[4] = {_mm512_load_si512(sums[r]), _mm512_load_si512(sums[r] + 16),
                              _mm512_load_si512(sums[r] + 32), _mm512_load_si512(sums[r] + 48)};
    admit_tile<kL2, kBound>(job, q + r, row, allowed, parts);
  }
}

// A few queries pass over the rows themselves, one after the other.
template <bool kL2, bool kBound>
inline void scan_rows(const ScanJob& job, uint32_t row, uint64_t allowed) {
  const size_t stride = job.items.rows.stride;
  const uint8_t* tile = job.items.rows.codes + row * stride;
  for (uint32_t q = 0; q < job.count; ++q) {
    const __m512i offset = _mm512_set1_epi32(job.offsets[q]);
    __m512i sums[4];
    unroll<4>([&](auto b) BELFRY_INLINE_BODY {
      const __m512i dots = row_dots(tile + b.value * kBlockRows * stride, stride, job.query_codes + q * stride);
      sums[b.value] = _mm512_add_epi32(dots, offset);
    });
    admit_tile<kL2, kBound>(job, q, row, allowed, sums);
  }
}

// The next tile's lines arrive while this one is used.
inline void fetch_tile(const ScanJob& job, uint32_t row) {
  const size_t stride = job.items.rows.stride;
  const uint8_t* tile = job.items.rows.codes + row * stride;
  const size_t bytes = kTileRows * stride < kFetchBytesMax ? kTileRows * stride : kFetchBytesMax;
  for (size_t byte = 0; byte < bytes; byte += 64) _mm_prefetch(tile + byte, _MM_HINT_T0);
}

template <bool kL2, bool kBound>
void scan(const ScanJob& job) {
  // Groups of 6 queries at the most, as equal as can be: a group of 1 or 2 waits for loads.
  const uint32_t groups = (job.count + kGroupQueries - 1) / kGroupQueries;
  const uint32_t small = groups == 0 ? 0 : job.count / groups;
  const uint32_t larger = groups == 0 ? 0 : job.count % groups;  // groups with one query more
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    const uint64_t allowed = job.allowed == nullptr ? ~uint64_t{0} : job.allowed[(row - job.row_begin) / kTileRows];
    if (allowed == 0) continue;
    if (row + kTileRows < job.row_end) fetch_tile(job, row + kTileRows);
    if (job.count < kTileQueriesMin) {
      scan_rows<kL2, kBound>(job, row, allowed);
      continue;
    }
    fill_tile(job, row);
    uint32_t q = 0;
    for (uint32_t group = 0; group < groups; ++group) {
      const uint32_t count = small + (group < larger ? 1 : 0);
      switch (count) {
        case 6: scan_tile<kL2, kBound, 6>(job, q, row, allowed); break;
        case 5: scan_tile<kL2, kBound, 5>(job, q, row, allowed); break;
        case 4: scan_tile<kL2, kBound, 4>(job, q, row, allowed); break;
        case 3: scan_tile<kL2, kBound, 3>(job, q, row, allowed); break;
        default: scan_tile<kL2, kBound, 2>(job, q, row, allowed); break;
      }
      q += count;
    }
  }
}

void dots(const ScanJob& job, int32_t* out) {
  const uint32_t rows = job.row_end - job.row_begin;
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    fill_tile(job, row);
    for (uint32_t q = 0; q < job.count; ++q) {
      alignas(64) int32_t sums[1][kTileRows];
      tile_dots<1>(job, q, sums);
      __builtin_memcpy(out + size_t{q} * rows + (row - job.row_begin), sums, sizeof sums);
    }
  }
}

constexpr PairKernels kPairs = pair_kernels<PairAvx512>();
constexpr KernelTable kTable = {"avx512vnni",
                                0,
                                {scan<false, false>, scan<true, false>, scan<false, true>, scan<true, true>},
                                dots,
                                score_rows,
                                widen_f16,
                                walk_graph<WalkAvx512>,
                                &kPairs};

}  // namespace

const KernelTable& table() { return kTable; }

}  // namespace belfry::kernels::avx512vnni
