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

// Sums of one query with 16 rows, the r-th at row_at(r): straight from the rows, so that each is read once.
template <class RowAt>
[[gnu::always_inline]] inline __m512i row_dots(const RowAt& row_at, size_t stride, const int8_t* query) {
  __m512i sums[16];
  const __m512i first = _mm512_load_si512(query);
  unroll<16>([&](auto r) BELFRY_INLINE_BODY {
    sums[r.value] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_load_si512(row_at(r.value)), first);
  });
  for (size_t line = 64; line < stride; line += 64) {
    const __m512i next = _mm512_load_si512(query + line);
    unroll<16>([&](auto r) BELFRY_INLINE_BODY {
      sums[r.value] = _mm512_dpbusd_epi32(sums[r.value], _mm512_load_si512(row_at(r.value) + line), next);
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
      const uint8_t* block = tile + b.value * kBlockRows * stride;
      const __m512i dots = row_dots([&](uint32_t r) BELFRY_INLINE_BODY { return block + r * stride; }, stride,
                                    job.query_codes + q * stride);
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

void dot_rows(const CodeRows& items, const int8_t* query, int32_t offset, const uint32_t* rows, uint32_t count,
              int32_t* out) {
  const size_t stride = items.stride;
  const auto fetch = [&](uint32_t begin, uint32_t end) {
    for (uint32_t i = begin; i < end && i < count; ++i) {
      const uint8_t* row = items.codes + rows[i] * stride;
      for (size_t byte = 0; byte < stride; byte += 64) _mm_prefetch(row + byte, _MM_HINT_T0);
    }
  };
  fetch(0, 16);
  for (uint32_t i = 0; i < count; i += 16) {
    fetch(i + 16, i + 32);
    const uint32_t last = count - i < 16 ? count - i - 1 : 15;  // stands in for the rows that are missing
    const __m512i sums =
        row_dots([&](uint32_t r) BELFRY_INLINE_BODY { return items.codes + rows[i + (r < last ? r : last)] * stride; },
                 stride, query);
    _mm512_mask_storeu_epi32(out + i, static_cast<__mmask16>((2U << last) - 1),
                             _mm512_add_epi32(sums, _mm512_set1_epi32(offset)));
  }
}

// The centred codes of a row, zero behind dims; the offset takes the +128 of the row it is multiplied with out again.
int32_t centre(const CodeRows& items, uint32_t row, int8_t* to) {
  const __m512i middle = _mm512_set1_epi8(-128);
  __m512i sum = _mm512_setzero_si512();
  for (uint32_t d = 0; d < items.dims; d += 64) {
    const __mmask64 mask = items.dims - d >= 64 ? ~__mmask64{0} : (__mmask64{1} << (items.dims - d)) - 1;
    const __m512i codes = _mm512_load_si512(items.codes + row * items.stride + d);
    const __m512i centred = _mm512_maskz_mov_epi8(mask, _mm512_xor_si512(codes, middle));
    _mm512_store_si512(to + d, centred);
    sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), centred);
  }
  return -128 * _mm512_reduce_add_epi32(sum);
}

// Blocks of 4 x 4 rows: 16 sums that one call of totals() finishes.
void dot_block(const CodeRows& items, const uint32_t* left, uint32_t left_count, const uint32_t* right,
               uint32_t right_count, int32_t* out) {
  alignas(64) int8_t centred[4][4096];  // kDimsMax
  const size_t stride = items.stride;
  for (uint32_t i = 0; i < left_count; i += 4) {
    const uint32_t high = left_count - i < 4 ? left_count - i : 4;
    int32_t offsets[4] = {};
    for (uint32_t r = 0; r < high; ++r) offsets[r] = centre(items, left[i + r], centred[r]);
    const __m512i offset =
        _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
                                 _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(offsets))));
    for (uint32_t j = 0; j < right_count; j += 4) {
      const uint32_t wide = right_count - j < 4 ? right_count - j : 4;
      const uint8_t* rows[4];
      for (uint32_t c = 0; c < 4; ++c) rows[c] = items.codes + right[j + (c < wide ? c : 0)] * stride;
      __m512i sums[16];
      unroll<16>([&](auto s) BELFRY_INLINE_BODY { sums[s.value] = _mm512_setzero_si512(); });
      for (size_t line = 0; line < stride; line += 64) {
        __m512i x[4];
        unroll<4>([&](auto c) BELFRY_INLINE_BODY { x[c.value] = _mm512_load_si512(rows[c.value] + line); });
        unroll<4>([&](auto r) BELFRY_INLINE_BODY {
          const __m512i y = _mm512_load_si512(centred[r.value] + line);
          unroll<4>([&](auto c) BELFRY_INLINE_BODY {
            sums[4 * r.value + c.value] = _mm512_dpbusd_epi32(sums[4 * r.value + c.value], x[c.value], y);
          });
        });
      }
      alignas(64) int32_t block[16];
      _mm512_store_si512(block, _mm512_add_epi32(totals(sums), offset));
      for (uint32_t r = 0; r < high; ++r) {
        __builtin_memcpy(out + size_t{i + r} * right_count + j, block + 4 * r, 4 * wide);
      }
    }
  }
}

constexpr PairKernels kPairs = pair_kernels<PairAvx512>();
constexpr KernelTable kTable = {
    "avx512vnni", {scan<false, false>, scan<true, false>, scan<false, true>, scan<true, true>},
    dots,         dot_rows,
    dot_block,    score_rows,
    widen_f16,    walk_graph<WalkAvx512>,
    &kPairs};

}  // namespace

const KernelTable& table() { return kTable; }

}  // namespace belfry::kernels::avx512vnni
