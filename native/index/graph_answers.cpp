// Edges between items that answer the same users. Items that stand together in the best 32 of some users are linked,
// pruned among themselves like other edges (in the manner of RoarGraph, arXiv 2408.08933).
// Measured in docs/decisions/0005-graph-build.md.

#include <algorithm>
#include <utility>
#include <vector>

#include "index/exact_index.hpp"
#include "index/graph_select.hpp"
#include "index/graph_stages.hpp"

namespace belfry::graph_build {

namespace {

constexpr uint32_t kUsersPerSearch = 2048;
constexpr uint32_t kListsPerItem = 200;       // lists of one item that are looked at, evenly spaced
constexpr uint32_t kCompanionsPerItem = 400;  // items most often beside it that are candidates for its edges

// The best items of every user, as internal rows: users x kAnswers, kNoNeighbour behind the last.
std::vector<uint32_t> find_answers(const Context& context, const std::vector<uint32_t>& order) {
  const VectorSource& users = *context.options.users;
  const ExactIndex index(context.vectors, context.metric, context.kernel, context.options.threads, order);
  SearchParams params;
  params.k = params.rescore = std::min(kAnswers, context.vectors.rows);
  params.mode = SearchMode::kCodes;
  std::vector<uint32_t> answers(size_t{users.rows} * kAnswers, kNoNeighbour);
  std::vector<float> queries;
  for (uint32_t first = 0; first < users.rows; first += kUsersPerSearch) {
    context.check();
    const uint32_t count = std::min(kUsersPerSearch, users.rows - first);
    queries.resize(size_t{count} * users.dims);
    for (uint32_t q = 0; q < count; ++q) {
      read_vector(context, users, first + q, queries.data() + size_t{q} * users.dims);
    }
    const Hits hits = index.search(queries.data(), count, params);
    for (uint32_t q = 0; q < count; ++q) {
      for (uint32_t i = 0; i < hits.counts[q]; ++i) {
        answers[(size_t{first} + q) * kAnswers + i] = index.row_order().internal(hits.rows[size_t{q} * params.k + i]);
      }
    }
    context.advance(uint64_t{count} * context.vectors.rows);
  }
  return answers;
}

// The users in whose answers each item stands: a counting sort.
struct ItemLists {
  std::vector<uint64_t> starts;
  std::vector<uint32_t> users;

  ItemLists(const std::vector<uint32_t>& answers, uint32_t rows) : starts(size_t{rows} + 1), users(answers.size()) {
    for (const uint32_t row : answers) {
      if (row != kNoNeighbour) ++starts[row + size_t{1}];
    }
    for (size_t row = 0; row < rows; ++row) starts[row + 1] += starts[row];
    std::vector<uint64_t> next(starts.begin(), starts.end() - 1);
    for (size_t i = 0; i < answers.size(); ++i) {
      if (answers[i] != kNoNeighbour) users[next[answers[i]]++] = static_cast<uint32_t>(i / kAnswers);
    }
  }
};

// The items that most often stand beside one item, by count, then row.
class Companions {
 public:
  Companions(const std::vector<uint32_t>& answers, const ItemLists& lists, uint32_t rows)
      : answers_(answers), lists_(lists), counts_(rows) {}

  const std::vector<uint32_t>& of(uint32_t row) {
    found_.clear();
    const uint64_t first = lists_.starts[row], there = lists_.starts[row + size_t{1}] - first;
    const uint64_t step = std::max<uint64_t>(1, there / kListsPerItem);
    for (uint64_t i = 0; i < there; i += step) {
      const uint32_t* list = answers_.data() + size_t{lists_.users[first + i]} * kAnswers;
      for (uint32_t j = 0; j < kAnswers && list[j] != kNoNeighbour; ++j) {
        if (list[j] != row && counts_[list[j]]++ == 0) found_.push_back(list[j]);
      }
    }
    const auto oftener = [&](uint32_t a, uint32_t b) {
      return counts_[a] != counts_[b] ? counts_[a] > counts_[b] : a < b;
    };
    const size_t kept = std::min<size_t>(found_.size(), kCompanionsPerItem);
    std::partial_sort(found_.begin(), found_.begin() + static_cast<std::ptrdiff_t>(kept), found_.end(), oftener);
    for (const uint32_t other : found_) counts_[other] = 0;
    found_.resize(kept);
    return found_;
  }

 private:
  const std::vector<uint32_t>& answers_;
  const ItemLists& lists_;
  std::vector<uint32_t> counts_, found_;
};

// The edges that are there keep at least half of the slots; new ones follow, then the rest of the old.
void merge(uint32_t* list, uint32_t degree, const std::vector<uint32_t>& added, std::vector<uint32_t>& merged) {
  uint32_t there = 0;
  while (there < degree && list[there] != kNoNeighbour) ++there;
  const uint32_t kept = std::min(there, degree - degree / 2);
  merged.assign(list, list + kept);
  const auto append = [&](uint32_t row) {
    if (merged.size() < degree && std::find(merged.begin(), merged.end(), row) == merged.end()) merged.push_back(row);
  };
  for (const uint32_t row : added) append(row);
  for (uint32_t i = kept; i < there; ++i) append(list[i]);
  std::copy(merged.begin(), merged.end(), list);
}

}  // namespace

uint64_t answer_work(const Context& context) noexcept {
  return context.has_users() ? uint64_t{context.options.users->rows} * context.vectors.rows : 0;
}

void link_answers(const Context& context, const CodedRows& rows, Graph& graph) {
  if (!context.has_users() || rows.rows < 2) return;
  const std::vector<uint32_t> answers = find_answers(context, graph.order);
  const ItemLists lists(answers, rows.rows);
  graph.query_edges = graph.degree / 2;
  context.for_rows(rows.rows, 0, [&](uint32_t first, uint32_t end) {
    Companions companions(answers, lists, rows.rows);
    Selector selector(context, rows);
    std::vector<std::pair<float, uint32_t>> near;
    std::vector<float> distance;
    std::vector<uint32_t> others, added, merged;
    for (uint32_t row = first; row < end; ++row) {
      const std::vector<uint32_t>& beside = companions.of(row);
      const auto count = static_cast<uint32_t>(beside.size());
      if (count == 0) continue;
      const float* squared = selector.distances(row, beside.data(), count);
      near.clear();
      for (uint32_t i = 0; i < count; ++i) near.emplace_back(squared[i], beside[i]);
      std::sort(near.begin(), near.end());
      distance.clear();
      others.clear();
      for (const auto& [squared_distance, other] : near) {
        distance.push_back(squared_distance);
        others.push_back(other);
      }
      uint32_t taken = 0;
      const uint32_t* selected = selector.select(distance.data(), others.data(), count, graph.degree / 2, taken);
      added.clear();
      for (uint32_t i = 0; i < taken; ++i) added.push_back(others[selected[i]]);
      merge(graph.neighbours.data() + size_t{row} * graph.degree, graph.degree, added, merged);
    }
  });
}

}  // namespace belfry::graph_build
