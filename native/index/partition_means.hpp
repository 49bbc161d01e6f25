#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/metric.hpp"
#include "index/item_codes.hpp"
#include "kernels/kernels.hpp"

namespace belfry {

// The means of partitions as codes, in the units of the items: the query side of a scan of the items fits a scan of
// these. Partition p is rows starts[p] .. starts[p + 1] - 1 of the items. For cosine it is the mean of the unit
// vectors, kept at its length: a partition whose rows point many ways is less likely to hold the best ones.
ItemCodes partition_means(const std::vector<uint32_t>& starts, const CodeView& items, Metric metric,
                          const KernelTable& kernel, size_t threads);

}  // namespace belfry
