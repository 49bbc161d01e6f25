// Groups rows by the nearest of about sqrt(rows) centres.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "core/thread_pool.hpp"
#include "index/graph_stages.hpp"

namespace belfry::graph_build {

namespace {

constexpr uint32_t kPartitionsMax = 16'384;
constexpr uint32_t kSamplePerPartition = 48;
constexpr uint32_t kIterations = 4;  // of Lloyd's algorithm; more changes neither order nor graph measurably
// A partition much larger than the others (many equal rows) is cut, so that no task is larger than that.
constexpr uint32_t kLargestOverMean = 4;
constexpr uint32_t kRowsMin = 1024;

// The nearest centre, and its distance, of rows[i].
void assign(const Context& context, const CodedRows& rows, const std::vector<uint32_t>& sample,
            const CodedRows& centres, std::vector<uint32_t>& nearest, std::vector<float>& distance) {
  const PackedRows packed(context, centres);
  nearest.resize(sample.size());
  distance.resize(sample.size());
  context.for_rows(static_cast<uint32_t>(sample.size()), centres.rows, [&](uint32_t first, uint32_t end) {
    AlignedBuffer<float> out(packed.padded());
    for (uint32_t i = first; i < end; ++i) {
      packed.distances(rows, sample[i], out.data());
      float best = out[0];
      for (uint32_t c = 1; c < centres.rows; ++c) best = std::min(best, out[c]);
      uint32_t c = 0;
      while (out[c] != best) ++c;
      nearest[i] = c;
      distance[i] = best;
    }
  });
}

// Members of each group, in ascending order: a counting sort.
struct Groups {
  std::vector<uint32_t> starts, members;
};
Groups group(const std::vector<uint32_t>& of, uint32_t count) {
  Groups groups{std::vector<uint32_t>(count + 1), std::vector<uint32_t>(of.size())};
  for (uint32_t g : of) ++groups.starts[g + 1];
  std::partial_sum(groups.starts.begin(), groups.starts.end(), groups.starts.begin());
  std::vector<uint32_t> at(groups.starts.begin(), groups.starts.end() - 1);
  for (uint32_t i = 0; i < of.size(); ++i) groups.members[at[of[i]]++] = i;
  return groups;
}

void move_centres(const Context& context, const CodedRows& rows, const std::vector<uint32_t>& sample,
                  const Groups& groups, CodedRows& centres) {
  const uint32_t dims = context.vectors.dims;
  ThreadPool::instance().parallel_for(centres.rows, context.options.threads, [&](size_t index) {
    const auto c = static_cast<uint32_t>(index);
    const uint32_t first = groups.starts[c], end = groups.starts[c + 1];
    if (first == end) return;  // stays where it is
    std::vector<double> sum(dims);
    for (uint32_t m = first; m < end; ++m) {
      const uint32_t row = sample[groups.members[m]];
      const double scale = rows.scale[row];
      const uint8_t* codes = rows.row(row);
      for (uint32_t i = 0; i < dims; ++i) sum[i] += scale * (int{codes[i]} - 128);
    }
    std::vector<float> mean(dims);
    for (uint32_t i = 0; i < dims; ++i) mean[i] = static_cast<float>(sum[i] / (end - first));
    (void)centres.encode(c, mean.data(), dims);
    centres.resize(c, 1);
  });
}

CodedRows find_centres(const Context& context, const CodedRows& rows, uint32_t count) {
  const uint32_t sampled = static_cast<uint32_t>(std::min<uint64_t>(rows.rows, uint64_t{count} * kSamplePerPartition));
  std::vector<uint32_t> sample(sampled);
  for (uint32_t i = 0; i < sampled; ++i) sample[i] = static_cast<uint32_t>(uint64_t{i} * rows.rows / sampled);
  CodedRows centres(count, context.vectors.dims);
  // Distinct rows of the sample, by a partial shuffle; mt19937_64 and plain modulo give the same numbers everywhere.
  std::mt19937_64 random(context.options.seed);
  std::vector<uint32_t> shuffled = sample;
  for (uint32_t c = 0; c < count; ++c) {
    std::swap(shuffled[c], shuffled[c + random() % (sampled - c)]);
    centres.copy(c, rows, shuffled[c]);
  }
  std::vector<uint32_t> nearest;
  std::vector<float> distance;
  for (uint32_t i = 0; i < kIterations; ++i) {
    assign(context, rows, sample, centres, nearest, distance);
    move_centres(context, rows, sample, group(nearest, count), centres);
  }
  return centres;
}

}  // namespace

uint32_t partition_count(uint32_t rows, const GraphBuildOptions& options) {
  const auto root = static_cast<uint32_t>(std::lround(std::sqrt(static_cast<double>(rows))));
  const uint32_t wanted = options.partitions == 0 ? root : options.partitions;
  return std::clamp(wanted, 1U, std::min(rows, kPartitionsMax));
}

Partitions partition_rows(const Context& context, const CodedRows& rows) {
  const uint32_t count = partition_count(rows.rows, context.options);
  const CodedRows centres = find_centres(context, rows, count);
  std::vector<uint32_t> all(rows.rows), nearest;
  std::iota(all.begin(), all.end(), 0U);
  std::vector<float> distance;
  assign(context, rows, all, centres, nearest, distance);
  Groups groups = group(nearest, count);

  Partitions partitions;
  const uint32_t largest = std::min(kPartitionRowsMax, std::max(kRowsMin, rows.rows / count * kLargestOverMean));
  std::vector<uint32_t> centre_of;
  for (uint32_t c = 0; c < count; ++c) {
    const uint32_t first = groups.starts[c], size = groups.starts[c + 1] - first;
    const uint32_t pieces = (size + largest - 1) / largest;
    for (uint32_t piece = 0; piece < pieces; ++piece) {
      const auto begin = first + static_cast<uint32_t>(uint64_t{size} * piece / pieces);
      const auto end = first + static_cast<uint32_t>(uint64_t{size} * (piece + 1) / pieces);
      uint32_t entry = begin;
      for (uint32_t i = begin + 1; i < end; ++i) {
        if (distance[groups.members[i]] < distance[groups.members[entry]]) entry = i;
      }
      partitions.starts.push_back(begin);
      partitions.entries.push_back(entry);
      centre_of.push_back(c);
    }
  }
  partitions.starts.push_back(rows.rows);
  partitions.order = std::move(groups.members);
  partitions.centres = CodedRows(partitions.count(), context.vectors.dims);
  for (uint32_t p = 0; p < partitions.count(); ++p) partitions.centres.copy(p, centres, centre_of[p]);
  return partitions;
}

}  // namespace belfry::graph_build
