#pragma once

// Choosing the edges of one row; shared by the stages of build_graph that do so.

#include <cstddef>
#include <cstdint>

#include "index/graph_stages.hpp"

namespace belfry::graph_build {

// Candidates of one row, packed for the kernels: at most kSelectMax of them.
class Selector {
 public:
  Selector(const Context& context, const CodedRows& rows)
      : context_(context),
        rows_(rows),
        blocks_(size_t{kSelectMax / kPairBlockRows} * rows.groups * 64),
        scale_(kSelectMax),
        norm_(kSelectMax),
        distance_(kSelectMax),
        offset_(kSelectMax),
        selected_(kSelectMax) {}

  // Squared distances of a row to `count` others.
  const float* distances(uint32_t row, const uint32_t* others, uint32_t count) {
    pack(others, count);
    context_.pairs().distances(rows_.row(row), rows_.scale[row], rows_.norm[row], columns(),
                               (count + kPairBlockRows - 1) / kPairBlockRows, distance_.data());
    return distance_.data();
  }

  // Positions of the chosen among `count` candidates, at most kSelectMax, nearest first.
  const uint32_t* select(const float* distance, const uint32_t* rows, uint32_t count, uint32_t wanted,
                         uint32_t& taken) {
    pack(rows, count);
    for (uint32_t i = 0; i < count; ++i) distance_[i] = distance[i];
    for (uint32_t i = count; i % kPairBlockRows != 0; ++i) distance_[i] = 0;
    SelectJob job{};
    job.candidates = columns();
    job.distance = distance_.data();
    job.count = count;
    job.alpha = context_.options.alpha;
    job.wanted = wanted;
    job.selected = selected_.data();
    taken = context_.pairs().select(job);
    return selected_.data();
  }

 private:
  PairColumns columns() const noexcept {
    return {rows_.groups, blocks_.data(), scale_.data(), norm_.data(), offset_.data()};
  }
  void pack(const uint32_t* rows, uint32_t count) {
    context_.pairs().pack(rows_.codes.data(), rows_.stride, rows_.groups, rows, count, blocks_.data());
    for (uint32_t i = 0; i < count; ++i) {
      scale_[i] = rows_.scale[rows[i]];
      norm_[i] = rows_.norm[rows[i]];
      offset_[i] = rows_.offset[rows[i]];
    }
    for (uint32_t i = count; i % kPairBlockRows != 0; ++i) scale_[i] = norm_[i] = 0, offset_[i] = 0;
  }

  const Context& context_;
  const CodedRows& rows_;
  AlignedBuffer<int8_t> blocks_;
  AlignedBuffer<float> scale_, norm_, distance_;
  AlignedBuffer<int32_t> offset_;
  AlignedBuffer<uint32_t> selected_;
};

}  // namespace belfry::graph_build
