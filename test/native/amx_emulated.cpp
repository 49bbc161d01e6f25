// The AMX level's own loops over tile instructions in plain C++, so that they are tested on any CPU.
#define BELFRY_AMX_EMULATE
#include "amx_emulated.hpp"

#include "kernels/portable_scan.hpp"

namespace belfry {
namespace {

inline void fill_tile(const ScanJob& job, uint32_t row) {
  const size_t stride = job.items.rows.stride;
  for (size_t b = 0, to = 0; b < 4; ++b) {
    for (size_t dim = 0; dim < (job.items.rows.dims + 3) / 4 * size_t{4}; dim += 4) {
      for (size_t r = 0; r < 16; ++r, to += 4) {
        __builtin_memcpy(job.tile + to, job.items.rows.codes + (row + 16 * b + r) * stride + dim, 4);
      }
    }
  }
}

template <bool kL2, bool kBound>
inline void admit_tile_sums(const ScanJob& job, uint32_t q, uint32_t row, uint64_t allowed,
                            const int32_t (&sums)[kTileRows]) {
  for (uint32_t b = 0; b < 4; ++b) {
    int32_t part[kBlockRows];
    for (uint32_t r = 0; r < kBlockRows; ++r) part[r] = sums[16 * b + r] + job.offsets[q];
    admit_block<kL2, kBound>(job, q, row + 16 * b, static_cast<uint32_t>(allowed >> (16 * b)) & 0xffffU, part);
  }
  prune_if_full(job, q);
}

}  // namespace
}  // namespace belfry

#include "kernels/amx_scan.hpp"

namespace belfry::kernels::amx_emulated {

const KernelTable& table() {
  static const KernelTable kTable = {
      "amx-emulated",
      0,
      {amx_scan<false, false>, amx_scan<true, false>, amx_scan<false, true>, amx_scan<true, true>},
      amx_dots,
      portable::table().score_rows,
      portable::table().widen_f16,
      portable::table().walk,
      portable::table().pairs};
  return kTable;
}

}  // namespace belfry::kernels::amx_emulated
