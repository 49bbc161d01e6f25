// AVX2. vpmaddubsw multiplies item codes by query codes without widening them, but its sums have 16 bits. So this level
// takes queries of coarser codes (KernelTable::query_window), whose sums over a window of dims cannot leave 16 bits.
#include "kernels/avx2_common.hpp"
#include "kernels/pair_avx2.hpp"
#include "kernels/walk_avx2.hpp"

namespace belfry::kernels::avx2 {

namespace {

// Groups of 4 dims. Larger saves multiplications (one vpmaddwd a window) and makes query codes coarser.
constexpr uint32_t kWindow = 16;

struct Dots {
  static constexpr uint32_t kGroupQueries = 4;

  // One block of 16 rows at a time: 8 accumulators, 4 query vectors, 1 of items and a product in 16 registers.
  template <uint32_t kQueries>
  [[gnu::noinline]] static void tile(const ScanJob& job, uint32_t q, int32_t (*out)[kTileRows]) {
    const size_t block_bytes = tile_block_bytes(job), stride = job.items.rows.stride;
    const int8_t* query = job.query_codes + q * stride;
    const __m256i ones = _mm256_set1_epi16(1);
    constexpr size_t kWindowBytes = size_t{kWindow} * 64;
    const uint8_t* block = job.tile;
    for (uint32_t first = 0; first < kTileRows; first += kBlockRows, block += block_bytes) {
      unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
        unroll<2>([&](auto v) BELFRY_INLINE_BODY {
          store(&out[r.value][first + 8 * v.value], _mm256_set1_epi32(job.offsets[q + r.value]));
        });
      });
      for (size_t begin = 0; begin < block_bytes; begin += kWindowBytes) {
        const size_t end = begin + kWindowBytes < block_bytes ? begin + kWindowBytes : block_bytes;
        __m256i sums[kQueries][2];
        unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
          unroll<2>([&](auto v) BELFRY_INLINE_BODY { sums[r.value][v.value] = _mm256_setzero_si256(); });
        });
        for (size_t at = begin; at < end; at += 64) {
          __m256i four[kQueries];
          unroll<kQueries>([&](auto r)
                               BELFRY_INLINE_BODY { four[r.value] = broadcast4(query + r.value * stride + at / 16); });
          unroll<2>([&](auto v) BELFRY_INLINE_BODY {
            const __m256i x = load(block + at + v.value * 32);
            unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
              sums[r.value][v.value] = _mm256_add_epi16(sums[r.value][v.value], _mm256_maddubs_epi16(x, four[r.value]));
            });
          });
        }
        unroll<kQueries>([&](auto r) BELFRY_INLINE_BODY {
          unroll<2>([&](auto v) BELFRY_INLINE_BODY {
            int32_t* to = &out[r.value][first + 8 * v.value];
            store(to, _mm256_add_epi32(load(to), _mm256_madd_epi16(sums[r.value][v.value], ones)));
          });
        });
      }
    }
  }

  static inline __m256i step(__m256i sum, __m256i x, __m256i q) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, q), _mm256_set1_epi16(1)));
  }
};

constexpr PairKernels kPairs = pair_kernels<PairAvx2>();
constexpr KernelTable kTable = {
    "avx2",
    kWindow,
    {scan<Dots, false, false>, scan<Dots, true, false>, scan<Dots, false, true>, scan<Dots, true, true>},
    dots<Dots>,
    score_rows,
    widen_f16,
    walk_graph<WalkAvx2>,
    &kPairs};

}  // namespace

const KernelTable& table() { return kTable; }

}  // namespace belfry::kernels::avx2
