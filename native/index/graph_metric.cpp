// The metric that user vectors teach. Users do not lie where items lie, so that items are near each other in their own
// coordinates may tell little about who answers the same user: training fixes only the products <u, x>. Over users u,
// the mean of (<u, x> - <u, y>)^2 is (x - y)^T M (x - y), M the users' second moment. With M = L L^T that is the
// squared distance of L^T x and L^T y: in these coordinates two items are near when users score them alike. Measured in
// docs/decisions/0005-graph-build.md.

#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "core/thread_pool.hpp"
#include "index/graph_stages.hpp"

namespace belfry::graph_build {

namespace {

constexpr double kWorkMax = 4e11;  // rows x dims^2, a minute of one core; beyond it the items' own metric must do
constexpr double kRidge = 1e-3;    // of the mean eigenvalue: users may span less than all dims

// The mean of u u^T over users scaled to unit length, lower triangle. In fixed parts that are added in order, so that
// threads do not change it.
std::vector<double> second_moment(const Context& context) {
  const VectorSource& users = *context.options.users;
  const size_t dims = users.dims;
  constexpr size_t kParts = 16;
  std::vector<std::vector<double>> parts(kParts);
  ThreadPool::instance().parallel_for(kParts, context.options.threads, [&](size_t part) {
    context.check();
    std::vector<double>& sum = parts[part];
    sum.assign(dims * dims, 0);
    std::vector<float> u(dims);
    const size_t end = (part + 1) * users.rows / kParts;
    for (size_t row = part * users.rows / kParts; row < end; ++row) {
      read_vector(context, users, static_cast<uint32_t>(row), u.data());
      double squares = 0;
      for (const float value : u) squares += double{value} * double{value};
      if (!(squares > 0) || !std::isfinite(squares)) continue;  // answers nobody; what is not finite is refused later
      for (size_t i = 0; i < dims; ++i) {
        const double factor = double{u[i]} / squares;
        for (size_t j = 0; j <= i; ++j) sum[i * dims + j] += factor * double{u[j]};
      }
    }
  });
  for (size_t part = 1; part < kParts; ++part) {
    for (size_t i = 0; i < dims * dims; ++i) parts[0][i] += parts[part][i];
  }
  return std::move(parts[0]);
}

// In place: the lower triangle L of matrix = L L^T. False when the matrix is not positive.
bool cholesky(std::vector<double>& matrix, size_t dims) {
  for (size_t i = 0; i < dims; ++i) {
    double* row = matrix.data() + i * dims;
    for (size_t j = 0; j <= i; ++j) {
      const double* other = matrix.data() + j * dims;
      double sum = row[j];
      for (size_t k = 0; k < j; ++k) sum -= row[k] * other[k];
      if (i != j) {
        row[j] = sum / other[j];
      } else if (sum > 0) {
        row[i] = std::sqrt(sum);
      } else {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

std::vector<float> user_metric(const Context& context) {
  const size_t dims = context.vectors.dims;
  if (!context.has_users() || context.metric == Metric::kL2) return {};
  if (static_cast<double>(context.vectors.rows) * static_cast<double>(dims * dims) > kWorkMax) return {};
  std::vector<double> moment = second_moment(context);
  double trace = 0;
  for (size_t i = 0; i < dims; ++i) trace += moment[i * dims + i];
  for (size_t i = 0; i < dims; ++i) moment[i * dims + i] += kRidge * trace / static_cast<double>(dims);
  if (!cholesky(moment, dims)) return {};  // no user has a direction
  return {moment.begin(), moment.end()};
}

}  // namespace belfry::graph_build
