#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "core/error.hpp"
#include "index/graph_stages.hpp"

namespace belfry {

namespace {

using namespace graph_build;

void check_options(const VectorSource& vectors, const GraphBuildOptions& options) {
  const auto within = [](const char* field, uint32_t value, uint32_t low, uint32_t high, const char* more = "") {
    if (value < low || value > high) {
      throw invalid_argument(field, "an integer from " + std::to_string(low) + " to " + std::to_string(high) + more,
                             std::to_string(value));
    }
  };
  within("degree", options.degree, kDegreeMin, kDegreeMax, ", a multiple of 8");
  if (options.degree % 8 != 0) {
    throw invalid_argument("degree", "a multiple of 8", std::to_string(options.degree));
  }
  within("candidates", options.candidates, kCandidatesMin, kCandidatesMax);
  if (!(options.alpha >= 1 && options.alpha <= 16)) {
    throw invalid_argument("alpha", "a number from 1 to 16", std::to_string(options.alpha));
  }
  if (vectors.rows < 1 || uint64_t{vectors.rows} > kRowsMax) {
    throw invalid_argument("rows", "from 1 to " + std::to_string(kRowsMax), std::to_string(vectors.rows));
  }
  if (options.users != nullptr && options.users->dims != vectors.dims) {
    throw Error(
        codes::kDimsMismatch,
        "users: expected dims " + std::to_string(vectors.dims) + ", received " + std::to_string(options.users->dims),
        "users");
  }
}

void check_users(const Context& context) {
  if (!context.has_users()) return;
  const VectorSource& users = *context.options.users;
  std::vector<float> u(users.dims);
  for (uint32_t row = 0; row < users.rows; ++row) {
    read_vector(context, users, row, u.data());
    for (const float value : u) {
      if (!std::isfinite(value)) {
        throw Error(codes::kBadVector, "users: row " + std::to_string(row) +
                                           " of those given holds NaN or an infinite value; leave it out");
      }
    }
  }
}

// The pairs of rows that the joins compare, before their plan is known.
uint64_t joined_pairs(uint32_t rows, const GraphBuildOptions& options) {
  const uint32_t partitions = partition_count(rows, options), probes = probe_count(rows, partitions, options);
  return probes == partitions ? uint64_t{rows} * rows / 2 : uint64_t{rows} * rows / partitions * probes;
}

}  // namespace

Graph build_graph(const VectorSource& vectors, Metric metric, const KernelTable& kernel,
                  const GraphBuildOptions& options, BuildProgress& progress) {
  check_options(vectors, options);
  const Context context{vectors, metric, kernel, options, progress};
  check_users(context);
  const uint64_t rows = vectors.rows;
  progress.phase = BuildPhase::kOrder;
  progress.done = 0;
  // Until the plan of the joins is known: what it will be at the most.
  const uint64_t ordering = rows * partition_count(vectors.rows, options);
  const uint64_t pruning = rows * kPruneWorkPerRow;
  const uint64_t answering = answer_work(context);
  progress.total = answering + ordering + joined_pairs(vectors.rows, options) + pruning;

  Graph graph;
  graph.rows = vectors.rows;
  graph.degree = options.degree;
  graph.seed = options.seed;
  graph.alpha = options.alpha;
  Partitions partitions;
  CodedRows coded;
  {
    const CodedRows unordered = encode_rows(context, user_metric(context));
    partitions = partition_rows(context, unordered);
    coded = reorder(context, unordered, partitions.order);
  }
  const JoinPlan plan = plan_joins(context, coded, partitions);
  progress.done = ordering;
  progress.total = ordering + plan.pairs + pruning + answering;
  progress.phase = BuildPhase::kNeighbours;
  NeighbourLists lists = find_neighbours(context, coded, partitions, plan);
  progress.phase = BuildPhase::kPrune;
  graph.neighbours = AlignedBuffer<uint32_t>(size_t{graph.rows} * graph.degree);
  std::fill_n(graph.neighbours.data(), graph.neighbours.size(), kNoNeighbour);
  prune_lists(context, coded, lists, graph);
  lists = NeighbourLists();
  graph.order = std::move(partitions.order);
  graph.entries = std::move(partitions.entries);
  graph.partition_starts = std::move(partitions.starts);
  progress.phase = BuildPhase::kUsers;
  link_answers(context, coded, graph);
  progress.phase = BuildPhase::kConnect;
  connect(context, graph);
  progress.done = progress.total.load();
  return graph;
}

size_t graph_build_memory(uint32_t rows, uint32_t dims, const GraphBuildOptions& options) {
  const size_t n = rows;
  const size_t stride = (size_t{dims} + 63) / 64 * 64;
  const size_t coded = n * (stride + 16);
  const size_t list = size_t{NeighbourLists::capacity_for(options.candidates)} * 8 + 8;
  const size_t reverse = size_t{std::min(options.candidates, options.degree)} * 8 + 16;
  const size_t graph = size_t{options.degree} * 4 + 4;
  const size_t partitions = partition_count(rows, options);
  // Ordering holds two copies of the codes; joining one, packed ones, the lists and who looks where; pruning one, the
  // lists, the reverse edges and the graph.
  const size_t ordering = 2 * coded + n * 24;
  const uint32_t probes = probe_count(rows, static_cast<uint32_t>(partitions), options);
  const size_t packed = (n + kPairBlockRows * partitions) * ((dims + 3) / 4 * size_t{4});
  const size_t joining = coded + packed + n * (list + 4 + (probes < partitions ? 2 * probes : 0));
  const size_t pruning = coded + n * (list + reverse + graph + 4);
  const size_t centres = partitions * (stride + 64) + partitions * partitions * 9;
  const size_t per_thread = size_t{32} << 20;
  const size_t threads = std::min(options.threads, n / kChunkRows + 1);
  // Finding the users' answers holds the codes twice, the graph, and the answers.
  const size_t users = options.users == nullptr ? 0 : options.users->rows;
  const size_t answering = users == 0 ? 0 : 2 * coded + n * (graph + 40) + users * kAnswers * 24 + threads * n * 4;
  return std::max({ordering, joining, pruning, answering}) + centres + threads * per_thread;
}

}  // namespace belfry
