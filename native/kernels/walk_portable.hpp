#pragma once

// The walk's primitives in plain C++, the judge of the others. Internal linkage, as in walk_loop.hpp.

#include "kernels/walk_loop.hpp"

namespace belfry {
namespace {

struct WalkPortable {
  static int32_t dot(const uint8_t* codes, const int8_t* query, size_t count) {
    int32_t sum = 0;
    for (size_t i = 0; i < count; ++i) sum += int32_t{codes[i]} * int32_t{query[i]};
    return sum;
  }

  static float key_of(const WalkJob& job, const CodeRows& items, uint32_t row, int32_t sum) {
    float scale, bias;
    __builtin_memcpy(&scale, items.scale + row * items.scale_stride, sizeof scale);
    float key = static_cast<float>(sum + job.offset) * scale;
    if (items.bias != nullptr) {
      __builtin_memcpy(&bias, items.bias + row * items.bias_stride, sizeof bias);
      key = key * job.l2_scale;
      key = key + bias * job.l2_weight;
    }
    return key;
  }

  template <uint32_t kLines>
  static uint32_t above(const WalkJob& job, const CodeRows& items, const uint32_t* rows, float floor, float* out) {
    uint32_t mask = 0;
    for (uint32_t i = 0; i < kWalkLanes; ++i) {
      out[i] = key_of(job, items, rows[i], dot(items.codes + rows[i] * items.stride, job.query, items.stride));
      mask |= (out[i] > floor ? 1U : 0U) << i;
    }
    return mask;
  }

  static uint32_t allowed(const WalkJob& job, const uint32_t* list, uint32_t count, uint32_t* out) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < kWalkLanes && i < count && list[i] != ~0U; ++i) {
      out[found] = list[i];
      found += static_cast<uint32_t>((job.allowed[list[i] >> 6] >> (list[i] & 63)) & 1);
    }
    return found;
  }

  static uint32_t insert(float* keys, uint32_t* rows, uint32_t size, uint32_t last, float key, uint32_t row) {
    uint32_t place = 0;
    for (uint32_t step = size; step > 0;) {  // the first entry below this key
      const uint32_t half = step / 2;
      if (keys[place + half] >= key) {
        place += half + 1;
        step -= half + 1;
      } else {
        step = half;
      }
    }
    const size_t moved = last - place;
    __builtin_memmove(keys + place + 1, keys + place, moved * sizeof *keys);
    __builtin_memmove(rows + place + 1, rows + place, moved * sizeof *rows);
    keys[place] = key;
    rows[place] = row;
    return place;
  }
};

}  // namespace
}  // namespace belfry
