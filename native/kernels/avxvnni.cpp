// AVX-VNNI: vpdpbusd on 256-bit registers, for CPUs that have it without AVX-512.
#include "kernels/avx2_common.hpp"
#include "kernels/pair_avx2.hpp"
#include "kernels/walk_avx2.hpp"

namespace belfry::kernels::avxvnni {

namespace {

struct Dots {
  static constexpr uint32_t kGroupQueries = 3;
  static constexpr uint32_t kVectors =
      4;  // of 8 rows: 12 accumulators, 3 query vectors and 1 of items fill 16 registers

  template <uint32_t kQueries>
  [[gnu::noinline]] static void tile(const ScanJob& job, uint32_t q, int32_t (*out)[kTileRows]) {
    const size_t block_bytes = tile_block_bytes(job), stride = job.items.rows.stride;
    for (uint32_t first = 0; first < kTileRows; first += 8 * kVectors) {
      const uint8_t* codes = job.tile + first / kBlockRows * block_bytes;
      const int8_t* query = job.query_codes + q * stride;
      __m256i sums[kQueries][kVectors];
      unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
        const __m256i offset = _mm256_set1_epi32(job.offsets[q + r.value]);
        unroll<kVectors>([&](auto v) BELFRY_INLINE_BODY { sums[r.value][v.value] = offset; });
      });
      for (const uint8_t* const end = codes + block_bytes; codes != end; codes += 64, query += 4) {
        __m256i four[kQueries];
        unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY { four[r.value] = broadcast4(query + r.value * stride); });
        unroll<kVectors>([&](auto v) BELFRY_INLINE_BODY {
          const __m256i x = load(codes + v.value / 2 * block_bytes + v.value % 2 * 32);
          unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
            sums[r.value][v.value] = step(sums[r.value][v.value], x, four[r.value]);
          });
        });
      }
      unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
        unroll<kVectors>([&](auto v)
                             BELFRY_INLINE_BODY { store(&out[r.value][first + 8 * v.value], sums[r.value][v.value]); });
      });
    }
  }

  [[gnu::always_inline]] static inline __m256i step(__m256i sum, __m256i x, __m256i q) {
    return _mm256_dpbusd_avx_epi32(sum, x, q);
  }
};

constexpr PairKernels kPairs = pair_kernels<PairAvx2>();
constexpr KernelTable kTable = {
    "avxvnni",
    0,
    {scan<Dots, false, false>, scan<Dots, true, false>, scan<Dots, false, true>, scan<Dots, true, true>},
    dots<Dots>,
    score_rows,
    widen_f16,
    walk_graph<WalkAvx2>,
    &kPairs};

}  // namespace

const KernelTable& table() { return kTable; }

}  // namespace belfry::kernels::avxvnni
