#include "index/partition_means.hpp"

#include <memory>

#include "core/thread_pool.hpp"
#include "index/vector_source.hpp"

namespace belfry {

ItemCodes partition_means(const std::vector<uint32_t>& starts, const CodeView& items, Metric metric,
                          const KernelTable& kernel, size_t threads) {
  const uint32_t dims = items.rows.dims;
  const size_t count = starts.size() - 1;
  const auto means = std::make_shared<std::vector<float>>(count * dims);
  ThreadPool::instance().parallel_for(count, threads, [&](size_t p) {
    std::vector<double> sums(dims);
    for (uint32_t row = starts[p]; row < starts[p + 1]; ++row) {
      const uint8_t* codes = items.rows.codes + row * items.rows.stride;
      const double scale = items.scale[row];
      for (uint32_t i = 0; i < dims; ++i) sums[i] += scale * (int{codes[i]} - 128);
    }
    for (uint32_t i = 0; i < dims; ++i) {
      (*means)[p * dims + i] = static_cast<float>(sums[i] / (starts[p + 1] - starts[p]));
    }
  });
  const VectorSource source{means,
                            reinterpret_cast<const unsigned char*>(means->data()),
                            dims * sizeof(float),
                            RowFormat::kF32,
                            static_cast<uint32_t>(count),
                            dims};
  // The sums are in the items' units already: nothing is left to divide by.
  return ItemCodes(source, metric == Metric::kL2 ? Metric::kL2 : Metric::kIp, kernel, threads, nullptr, 0);
}

}  // namespace belfry
