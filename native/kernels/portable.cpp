// The level without intrinsics: the reference of all others, and what runs on a CPU that has none of them.
#include "kernels/pair_portable.hpp"
#include "kernels/portable_scan.hpp"
#include "kernels/walk_portable.hpp"

namespace belfry::kernels::portable {

namespace {

// Items are unsigned, queries signed: the operands of vpdpbusd.
int32_t dot(const uint8_t* row, const int8_t* query, size_t count) {
  int32_t sum = 0;
  for (size_t i = 0; i < count; ++i) sum += int32_t{row[i]} * int32_t{query[i]};
  return sum;
}

template <bool kL2, bool kBound>
void scan(const ScanJob& job) {
  const CodeRows& items = job.items.rows;
  for (uint32_t row = job.row_begin; row < job.row_end; row += kTileRows) {
    const uint64_t allowed = job.allowed == nullptr ? ~uint64_t{0} : job.allowed[(row - job.row_begin) / kTileRows];
    if (allowed == 0) continue;
    for (uint32_t q = 0; q < job.count; ++q) {
      const int8_t* query = job.query_codes + q * items.stride;
      for (uint32_t b = 0; b < 4; ++b) {
        const uint32_t first = row + b * kBlockRows;
        int32_t sums[kBlockRows];
        for (uint32_t r = 0; r < kBlockRows; ++r) {
          sums[r] = job.offsets[q] + dot(items.codes + size_t{first + r} * items.stride, query, items.dims);
        }
        admit_block<kL2, kBound>(job, q, first, static_cast<uint32_t>(allowed >> (16 * b)) & 0xffffU, sums);
      }
      prune_if_full(job, q);
    }
  }
}

void dots(const ScanJob& job, int32_t* out) {
  const CodeRows& items = job.items.rows;
  for (uint32_t q = 0; q < job.count; ++q) {
    for (uint32_t row = job.row_begin; row < job.row_end; ++row) {
      *out++ = job.offsets[q] + dot(items.codes + row * items.stride, job.query_codes + q * items.stride, items.dims);
    }
  }
}

float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000U} << 16;
  uint32_t exponent = (half >> 10) & 0x1fU;
  uint32_t mantissa = half & 0x3ffU;
  uint32_t bits = 0;
  if (exponent == 0x1f) {
    // A NaN keeps its payload and becomes quiet, as vcvtph2ps does.
    bits = sign | 0x7f800000U | (mantissa << 13) | (mantissa != 0 ? 0x00400000U : 0U);
  } else if (exponent == 0 && mantissa == 0) {
    bits = sign;
  } else {
    if (exponent == 0) {  // subnormal: shift until the leading 1 is where a normal number has it
      exponent = 1;
      while ((mantissa & 0x400U) == 0) {
        mantissa <<= 1;
        --exponent;  // wraps below zero on purpose; the bias below brings it back
      }
      mantissa &= 0x3ffU;
    }
    bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
  }
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

void widen_f16(const unsigned char* from, float* to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    uint16_t half;
    __builtin_memcpy(&half, from + 2 * i, sizeof half);
    to[i] = half_to_float(half);
  }
}

double fold(double lanes[16]) {
  for (int width = 8; width >= 1; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

double score_row(const ScoreJob& job, const float* row) {
  double lanes[16] = {};
  double squares[16] = {};
  const bool cosine = job.score == RowScore::kCosine;
  for (uint32_t i = 0; i < job.dims; ++i) {
    const double q = job.query[i];
    const double x = row[i];
    if (job.score == RowScore::kL2) {
      const double difference = q - x;
      lanes[i & 15] += difference * difference;
    } else {
      lanes[i & 15] += q * x;  // exact product: 24 + 24 bits fit in 53
      if (cosine) squares[i & 15] += x * x;
    }
  }
  return finish_score(job, fold(lanes), cosine ? fold(squares) : 0.0);
}

void score_rows(const ScoreJob& job) {
  float buffer[4096];  // kDimsMax
  for (uint32_t i = 0; i < job.count; ++i) {
    const size_t row = job.rows == nullptr ? size_t{job.first} + i : job.rows[i];
    const unsigned char* from = job.base + row * job.row_bytes;
    if (job.format == RowFormat::kF16) {
      widen_f16(from, buffer, job.dims);
    } else {
      __builtin_memcpy(buffer, from, size_t{job.dims} * 4);
    }
    job.out[i] = score_row(job, buffer);
  }
}

constexpr PairKernels kPairs = pair_kernels<PairPortable>();
constexpr KernelTable kTable = {"portable",
                                0,
                                {scan<false, false>, scan<true, false>, scan<false, true>, scan<true, true>},
                                dots,
                                score_rows,
                                widen_f16,
                                walk_graph<WalkPortable>,
                                &kPairs};

}  // namespace

const KernelTable& table() { return kTable; }

}  // namespace belfry::kernels::portable
