// AMX int8: tdpbsud multiplies 16 queries by 16 rows over 64 dims in one instruction. For a single query it does
// nothing that VNNI does not, so those scans go to the VNNI level.
#include "kernels/avx512_common.hpp"
#include "kernels/pair_avx512.hpp"

namespace belfry {
namespace {

template <bool kL2, bool kBound>
inline void admit_tile_sums(const ScanJob& job, uint32_t q, uint32_t row, uint64_t allowed,
                            const int32_t (&sums)[kTileRows]) {
  const __m512i offset = _mm512_set1_epi32(job.offsets[q]);
  __m512i parts[4];
  for (uint32_t b = 0; b < 4; ++b) parts[b] = _mm512_add_epi32(_mm512_load_si512(sums + 16 * b), offset);
  admit_tile<kL2, kBound>(job, q, row, allowed, parts);
}

}  // namespace
}  // namespace belfry

#include "kernels/amx_scan.hpp"
#include "kernels/walk_avx512.hpp"

namespace belfry::kernels::amx {

namespace {

constexpr uint32_t kFewQueries = 8;  // below this, a 16-row query tile is mostly empty

template <bool kL2, bool kBound, uint32_t kKind>
void scan(const ScanJob& job) {
  if (job.count < kFewQueries) {
    avx512vnni::table().scan[kKind](job);
  } else {
    amx_scan<kL2, kBound>(job);
  }
}

constexpr PairKernels kPairs = pair_kernels<PairAvx512>();
constexpr KernelTable kTable = {
    "amx",
    0,
    {scan<false, false, 0>, scan<true, false, 1>, scan<false, true, 2>, scan<true, true, 3>},
    amx_dots,
    score_rows,
    widen_f16,
    walk_graph<WalkAvx512>,
    &kPairs};

}  // namespace

const KernelTable& table() { return kTable; }

}  // namespace belfry::kernels::amx
