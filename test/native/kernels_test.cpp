// Every level against a scalar loop of its own: integers and keys bit for bit, on odd sizes, unaligned rows, extremes.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "check.hpp"
#include "core/aligned_buffer.hpp"
#include "kernel_tables.hpp"
#include "kernels/cpu.hpp"

namespace {

using namespace belfry;

struct Case {
  uint32_t rows, dims, queries;
  size_t stride;
  AlignedBuffer<uint8_t> codes, tile;
  AlignedBuffer<int8_t> query_codes;
  AlignedBuffer<float> scale, bias, error, norm;
  std::vector<int32_t> offsets;
  std::vector<float> l2_scale, l2_weight, error_weight, norm_weight;

  // `window`: that of the kernel table under test, which the query codes respect.
  Case(uint32_t rows_, uint32_t dims_, uint32_t queries_, bool extremes, uint32_t seed, uint32_t window)
      : rows(rows_),
        dims(dims_),
        queries(queries_),
        stride((size_t{dims_} + 63) / 64 * 64),
        codes(size_t{rows_} * stride),
        tile(size_t{kTileRows} * stride + kSlackBytes),
        query_codes((size_t{queries_} + 32) * stride + kSlackBytes),
        scale(rows_),
        bias(rows_),
        error(rows_),
        norm(rows_),
        offsets(queries_),
        l2_scale(queries_),
        l2_weight(queries_),
        error_weight(queries_),
        norm_weight(queries_) {
    std::mt19937 random(belfry::test::seed(seed));
    const auto code = [&] {
      const int value = static_cast<int>(random() % 255) - 127;
      return extremes ? (value < 0 ? -127 : 127) : value;
    };
    const auto real = [&] { return static_cast<float>(random() % 2000) / 1000.0F - 0.5F; };
    // What stands behind the dims of a row must not matter: queries are zero there.
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(random());
    for (uint32_t row = 0; row < rows; ++row) {
      for (uint32_t d = 0; d < dims; ++d) at(row, d) = static_cast<uint8_t>(code() + 128);
      scale[row] = std::fabs(real()) * 0.01F;
      bias[row] = -std::fabs(real());
      error[row] = std::fabs(real()) * 0.01F;
      norm[row] = std::fabs(real());
    }
    for (uint32_t q = 0; q < queries; ++q) {
      set_query(q, code, window);
      l2_scale[q] = real();
      l2_weight[q] = std::fabs(real());
      error_weight[q] = std::fabs(real());
      norm_weight[q] = std::fabs(real());
    }
  }

  // Codes from `code`, cut where a window is full: its sums reach the limit but do not pass it.
  template <class Code>
  void set_query(uint32_t q, const Code& code, uint32_t window) {
    int32_t sum = 0, room[2][2] = {};
    for (uint32_t d = 0; d < dims; ++d) {
      if (window != 0 && d % (4 * window) == 0) {
        for (auto& lane : room) lane[0] = lane[1] = kWindowSumMax;
      }
      int value = code();
      if (window != 0) {
        int32_t& left = room[d / 2 % 2][value < 0 ? 1 : 0];
        value = value < 0 ? std::max(value, -left) : std::min(value, left);
        left -= std::abs(value);
      }
      query_codes[q * stride + d] = static_cast<int8_t>(value);
      sum += value;
    }
    offsets[q] = -128 * sum;
  }
  uint8_t& at(uint32_t row, uint32_t d) { return codes[row * stride + d]; }
  int32_t dot(uint32_t q, uint32_t row) {
    int32_t sum = 0;
    for (uint32_t d = 0; d < dims; ++d) sum += (int32_t{at(row, d)} - 128) * int32_t{query_codes[q * stride + d]};
    return sum;
  }
  float key(uint32_t q, uint32_t row, ScanKind kind) {
    volatile float value = static_cast<float>(dot(q, row)) * scale[row];
    if (kind == ScanKind::kL2 || kind == ScanKind::kL2Bound) {
      value = value * l2_scale[q];
      const volatile float lifted = bias[row] * l2_weight[q];
      value = value + lifted;
    }
    if (kind == ScanKind::kPlainBound || kind == ScanKind::kL2Bound) {
      const volatile float a = error_weight[q] * error[row], b = norm_weight[q] * norm[row];
      const volatile float slack = a + b;
      value = value + slack;
    }
    return value;
  }
  CodeRows code_rows() {
    CodeRows out{};
    out.codes = codes.data();
    out.stride = stride;
    out.dims = dims;
    return out;
  }
  ScanJob job() {
    ScanJob out{};
    out.items = {code_rows(), scale.data(), bias.data(), error.data(), norm.data()};
    out.tile = tile.data();
    out.row_end = rows;
    out.count = queries;
    out.query_codes = query_codes.data();
    out.offsets = offsets.data();
    out.l2_scale = l2_scale.data();
    out.l2_weight = l2_weight.data();
    out.error_weight = error_weight.data();
    out.norm_weight = norm_weight.data();
    return out;
  }
};

constexpr uint32_t kDims[] = {1, 3, 4, 5, 16, 63, 64, 65, 100, 129, 768};

TEST(integer_sums_are_equal_on_every_level) {
  for (uint32_t dims : kDims) {
    for (uint32_t queries : {1U, 2U, 5U, 6U, 7U, 33U}) {
      for (bool extremes : {false, true}) {
        for (const KernelTable* table : test::all_tables()) {
          Case data(128, dims, queries, extremes, dims * 31 + queries, table->query_window);
          std::vector<int32_t> sums(size_t{128} * queries);
          table->dots(data.job(), sums.data());
          bool equal = true;
          for (uint32_t q = 0; q < queries; ++q) {
            for (uint32_t row = 0; row < 128; ++row) equal &= sums[size_t{q} * 128 + row] == data.dot(q, row);
          }
          CHECK_MESSAGE(equal, std::string(table->name) + " dims " + std::to_string(dims));
        }
      }
    }
  }
}

TEST(largest_sum_at_the_largest_dims) {
  for (const KernelTable* table : test::all_tables()) {
    Case data(64, 4096, 2, true, 7, 0);
    for (uint32_t row = 0; row < 64; ++row) {
      for (uint32_t d = 0; d < 4096; ++d) data.at(row, d) = 255;
    }
    for (uint32_t q = 0; q < 2; ++q)
      data.set_query(
          q, [&] { return q == 0 ? 127 : -127; }, table->query_window);
    std::vector<int32_t> sums(128);
    table->dots(data.job(), sums.data());
    // With a limit, each of the two lanes of each window holds codes of sum 128.
    const int32_t largest =
        table->query_window == 0 ? 127 * 4096 : 128 * 2 * 1024 / static_cast<int32_t>(table->query_window);
    CHECK_MESSAGE(sums[0] == 127 * largest && sums[127] == -127 * largest, table->name);
  }
}

TEST(scans_admit_the_same_rows_with_the_same_keys) {
  for (uint32_t dims : {1U, 17U, 64U, 100U}) {
    for (uint32_t queries : {1U, 2U, 6U, 11U, 40U}) {
      for (uint32_t kind = 0; kind < kScanKinds; ++kind) {
        const uint64_t allowed[3] = {~uint64_t{0}, 0x00ff00ff12345678ULL, 0};
        for (const uint64_t* filter : {static_cast<const uint64_t*>(nullptr), allowed}) {
          for (const KernelTable* table : test::all_tables()) {
            Case data(192, dims, queries, false, dims + queries, table->query_window);
            std::vector<float> thresholds(queries), keys(size_t{queries} * 320);
            std::vector<uint32_t> rows(size_t{queries} * 320);
            std::vector<Candidates> lists(queries);
            for (uint32_t q = 0; q < queries; ++q) {
              thresholds[q] = data.key(q, q, static_cast<ScanKind>(kind));  // some row's own key: tests strictness
              lists[q] = {&keys[q * size_t{320}], &rows[q * size_t{320}], 0, 256, nullptr, nullptr};
            }
            ScanJob job = data.job();
            job.allowed = filter;
            job.thresholds = thresholds.data();
            job.lists = lists.data();
            table->scan[kind](job);
            bool equal = true;
            for (uint32_t q = 0; q < queries; ++q) {
              uint32_t n = 0;
              for (uint32_t row = 0; row < 192; ++row) {
                const float key = data.key(q, row, static_cast<ScanKind>(kind));
                if (!(key > thresholds[q])) continue;
                if (filter != nullptr && ((filter[row / 64] >> (row % 64)) & 1) == 0) continue;
                equal &= n < lists[q].size && lists[q].rows[n] == row &&
                         std::bit_cast<uint32_t>(lists[q].keys[n]) == std::bit_cast<uint32_t>(key);
                ++n;
              }
              equal &= lists[q].size == n;
            }
            CHECK_MESSAGE(equal, std::string(table->name) + " kind " + std::to_string(kind));
          }
        }
      }
    }
  }
}

TEST(row_scores_have_the_same_bits_from_unaligned_memory) {
  std::mt19937 random(belfry::test::seed(5));
  std::normal_distribution<float> normal(0, 1);
  for (uint32_t dims : kDims) {
    for (RowFormat format : {RowFormat::kF32, RowFormat::kF16}) {
      const size_t row_bytes = size_t{dims} * (format == RowFormat::kF16 ? 2 : 4);
      std::vector<unsigned char> bytes(row_bytes * 20 + 1);
      for (size_t i = 1; i + 1 < bytes.size(); i += 2) {
        // Finite halves; for f32, floats written over them.
        const auto half = static_cast<uint16_t>((random() & 0x83ffU) | ((random() % 30) << 10));
        std::memcpy(&bytes[i], &half, 2);
      }
      if (format == RowFormat::kF32) {
        for (size_t i = 0; i < size_t{dims} * 20; ++i) {
          const float value = normal(random) * (i % 7 == 0 ? 1e-3F : 1e3F);
          std::memcpy(&bytes[1 + 4 * i], &value, 4);
        }
      }
      std::vector<float> query(dims);
      for (float& value : query) value = normal(random);
      const std::vector<uint32_t> rows = {3, 0, 19, 7, 7, 1};
      for (RowScore score : {RowScore::kIp, RowScore::kCosine, RowScore::kL2}) {
        std::vector<double> expected(rows.size()), scores(rows.size());
        ScoreJob job{&bytes[1], row_bytes, format, score, dims, query.data(), 1.5, rows.data(), 0, 6, expected.data()};
        kernels::portable::table().score_rows(job);
        job.out = scores.data();
        for (const KernelTable* table : test::all_tables()) {
          table->score_rows(job);
          CHECK_MESSAGE(std::memcmp(scores.data(), expected.data(), sizeof(double) * 6) == 0,
                        std::string(table->name) + " dims " + std::to_string(dims));
        }
      }
    }
  }
}

TEST(every_half_widens_to_the_same_float) {
  std::vector<unsigned char> halves(2 * 65536 + 1);
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto half = static_cast<uint16_t>(i);
    std::memcpy(&halves[1 + 2 * i], &half, 2);
  }
  std::vector<float> expected(65536), widened(65536);
  for (uint32_t i = 0; i < 65536; ++i) {
    const int exponent = static_cast<int>((i >> 10) & 31U);
    const double mantissa = i & 1023U;
    double value = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31) value = mantissa == 0 ? std::numeric_limits<double>::infinity() : std::nan("");
    expected[i] = static_cast<float>((i & 0x8000U) != 0 ? -value : value);
  }
  for (const KernelTable* table : test::all_tables()) {
    table->widen_f16(&halves[1], widened.data(), 65536);
    bool equal = true;
    for (uint32_t i = 0; i < 65536; ++i) {
      equal &= std::isnan(expected[i]) ? std::isnan(widened[i])
                                       : std::bit_cast<uint32_t>(widened[i]) == std::bit_cast<uint32_t>(expected[i]);
    }
    CHECK_MESSAGE(equal, table->name);
    // A length that is not a multiple of the vector must not write past the end.
    std::vector<float> guarded(14, 42.0F);
    table->widen_f16(&halves[1], guarded.data(), 13);
    CHECK(guarded[13] == 42.0F);
  }
}

}  // namespace
