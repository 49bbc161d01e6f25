#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/exclusions.hpp"
#include "core/row_filter.hpp"

namespace belfry {

enum class SearchMode : uint8_t {
  kCodes,  // 8-bit scan, the best `rescore` rows scored from the vectors
  kExact,  // 8-bit scan, every row whose bound reaches the k-th score scored from the vectors: provably the true top k
  kF32,    // every row scored from the vectors; the judge of the other two
  kProbe,  // 8-bit scan of the `probes` partitions whose means are best, then as in mode codes; needs a graph
  kWalk,   // the graph walked with the given effort, the best `rescore` rows scored from the vectors
};

// How a search was answered.
enum class SearchPath : uint8_t {  // binding/exports.cpp names them in this order
  kScan,                           // all rows
  kProbe,                          // the rows of some partitions
  kList,                           // the few rows that the filter allows, one by one
  kWalk,                           // the graph
  kFilteredWalk,                   // the graph, across rows that the filter forbids
  kFilteredProbe,                  // the rows that the filter allows in some partitions, one by one
};

struct SearchParams {
  uint32_t k = 10;
  SearchMode mode = SearchMode::kExact;
  uint32_t rescore = 30;  // modes codes, probe and walk; at least k
  uint32_t probes = 1;    // mode probe: partitions of the graph that a query is compared with
  uint32_t ef = 64;       // mode walk: rows kept while walking; at least k
  // Mode walk: ends when the best row not looked at is this many times as far (squared) as the stop_rank-th so far (the
  // k-th, if that is a later one); at least 1.
  float stop = 1.12F;
  uint32_t stop_rank = 0;                  // at most ef
  bool fall_back = true;                   // modes probe and walk: false leaves a query that needs a scan unanswered
  const RowFilter* filter = nullptr;       // null: every row may be returned
  const Exclusions* exclusions = nullptr;  // rows that single queries, or all of them, must not return; null: none
};

// count x k; the first counts[q] entries of each query are hits, best first.
struct Hits {
  std::vector<uint32_t> rows;
  std::vector<float> scores;
  std::vector<uint32_t> counts;
  SearchPath path = SearchPath::kScan;
  // Modes probe and walk, all queries together: rows scored (probe: passed over), rows expanded, and queries that a
  // scan had to answer.
  uint64_t scored = 0, expanded = 0;
  uint32_t fallbacks = 0;
};

}  // namespace belfry
