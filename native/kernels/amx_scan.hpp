#pragma once

// The AMX level's loops, over the tile wrapper and over `fill_tile` and `admit_tile_sums`, which the includer supplies:
// AVX-512 in amx.cpp, scalar in the emulated copy that the native tests build.

#include <cstddef>
#include <cstdint>

#include "kernels/amx_tile.hpp"
#include "kernels/kernels.hpp"

namespace belfry {
namespace {

constexpr uint32_t kTileQueries = 32;

// Sums of 32 queries from `q` with rows column .. column + 31 of job.tile: four accumulator tiles, so that each loaded
// operand is used twice. The last 64-dim step may read codes of the next block; the query is zero there.
inline void dots_32x32(const ScanJob& job, uint32_t q, int32_t (&sums)[kTileQueries][kTileRows], uint32_t column) {
  const uint32_t groups = (job.items.rows.dims + 3) / 4;
  const size_t block_bytes = size_t{groups} * 64;
  const size_t stride = job.items.rows.stride;
  const uint8_t* block = job.tile + column / kBlockRows * block_bytes;
  const int8_t* query = job.query_codes + q * stride;
  tile::zero<0>();
  tile::zero<1>();
  tile::zero<2>();
  tile::zero<3>();
  for (uint32_t g = 0; g < groups; g += 16) {
    tile::load<4>(query + size_t{g} * 4, stride);
    tile::load<6>(block + size_t{g} * 64, 64);
    tile::dot_signed_unsigned<0, 4, 6>();
    tile::load<7>(block + block_bytes + size_t{g} * 64, 64);
    tile::dot_signed_unsigned<1, 4, 7>();
    tile::load<5>(query + 16 * stride + size_t{g} * 4, stride);
    tile::dot_signed_unsigned<2, 5, 6>();
    tile::dot_signed_unsigned<3, 5, 7>();
  }
  tile::store<0>(&sums[0][column], kTileRows * 4);
  tile::store<1>(&sums[0][column + 16], kTileRows * 4);
  tile::store<2>(&sums[16][column], kTileRows * 4);
  tile::store<3>(&sums[16][column + 16], kTileRows * 4);
}

template <bool kL2, bool kBound>
void amx_scan(const ScanJob& job) {
  // Tile registers belong to the thread and cost time at each switch while configured: set here, released at the end.
  tile::configure(tile::Config{});
  alignas(64) int32_t sums[kTileQueries][kTileRows];
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    const uint64_t allowed = job.allowed == nullptr ? ~uint64_t{0} : job.allowed[(row - job.row_begin) / kTileRows];
    if (allowed == 0) continue;
    fill_tile(job, row);
    for (uint32_t q = 0; q < job.count; q += kTileQueries) {
      dots_32x32(job, q, sums, 0);
      dots_32x32(job, q, sums, 32);
      const uint32_t present = job.count - q < kTileQueries ? job.count - q : kTileQueries;
      for (uint32_t r = 0; r < present; ++r) admit_tile_sums<kL2, kBound>(job, q + r, row, allowed, sums[r]);
    }
  }
  tile::release();
}

void amx_dots(const ScanJob& job, int32_t* out) {
  tile::configure(tile::Config{});
  const uint32_t rows = job.row_end - job.row_begin;
  alignas(64) int32_t sums[kTileQueries][kTileRows];
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    fill_tile(job, row);
    for (uint32_t q = 0; q < job.count; q += kTileQueries) {
      dots_32x32(job, q, sums, 0);
      dots_32x32(job, q, sums, 32);
      for (uint32_t r = 0; r < kTileQueries && q + r < job.count; ++r) {
        for (uint32_t i = 0; i < kTileRows; ++i) {
          out[size_t{q + r} * rows + (row - job.row_begin) + i] = sums[r][i] + job.offsets[q + r];
        }
      }
    }
  }
  tile::release();
}

}  // namespace
}  // namespace belfry
