#include "core/item_json.hpp"

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string_view>
#include <vector>

#include "check.hpp"

namespace {

using belfry::ItemHits;
using belfry::ItemIds;

std::string written(float score) {
  std::array<char, belfry::kScoreBytes> out;
  return {out.data(), belfry::put_score(score, out.data())};
}

TEST(scores_have_nine_digits_at_most_and_name_the_float) {
  CHECK(written(21.8994522F) == "21.8994522");
  CHECK(written(-0.5F) == "-0.5");
  CHECK(written(1.0F) == "1");
  CHECK(written(0.0F) == "0" && written(-0.0F) == "0");
  CHECK(written(999999.94F) == "999999.938");
  CHECK(written(0.01F) == "0.00999999978");
  CHECK(written(0.001F) == "0.00100000005");
  CHECK(written(100.0F) == "100");
  std::mt19937 random(5);
  bool same = true;
  for (int i = 0; i < 1'000'000; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    float score;
    std::memcpy(&score, &bits, sizeof score);
    if (!std::isfinite(score)) continue;
    same &= std::strtof(written(score).c_str(), nullptr) == score;
  }
  CHECK(same);
}

TEST(items_are_written_in_the_order_asked_for) {
  const std::string_view text = "a\"b\\c\x01\xc3\xa9zz";
  const std::vector<uint32_t> ends{3, 5, 8, 10};
  ItemIds ids;
  ids.kind = ItemIds::Kind::kText;
  ids.text = {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
  ids.ends = ends;
  ids.size = 4;
  const std::vector<uint32_t> rows{2, 0, 3};
  const std::vector<float> scores{0.75F, 0.5F, 0.25F};
  ItemHits hits{rows, scores, {}, {}};
  std::string out;
  CHECK(belfry::items_json(ids, hits, 2, out));
  CHECK(out ==
        "[{\"id\":\"\\u0001\xc3\xa9\",\"score\":0.75,\"retrieval_score\":0.75,\"retrieval_rank\":1},"
        "{\"id\":\"a\\\"b\",\"score\":0.5,\"retrieval_score\":0.5,\"retrieval_rank\":2}]");

  const std::vector<uint32_t> order{2, 0, 1};
  const std::vector<float> reranked{1.5F, std::numeric_limits<float>::quiet_NaN(), 3};
  hits.order = order;
  hits.reranked = reranked;
  CHECK(belfry::items_json(ids, hits, 3, out));
  CHECK(out ==
        "[{\"id\":\"zz\",\"score\":3,\"retrieval_score\":0.25,\"retrieval_rank\":3},"
        "{\"id\":\"\\u0001\xc3\xa9\",\"score\":1.5,\"retrieval_score\":0.75,\"retrieval_rank\":1},"
        "{\"id\":\"a\\\"b\",\"score\":0.5,\"retrieval_score\":0.5,\"retrieval_rank\":2}]");
  CHECK(belfry::items_json(ids, hits, 0, out) && out == "[]");
}

TEST(what_has_no_id_or_no_score_is_not_written) {
  const std::vector<double> integers{9007199254740991.0, 7};
  ItemIds ids;
  ids.kind = ItemIds::Kind::kIntegers;
  ids.integers = integers;
  ids.size = 2;
  const std::vector<uint32_t> rows{0, 2};
  const std::vector<float> scores{1, 1};
  std::string out;
  CHECK(belfry::items_json(ids, {rows, scores, {}, {}}, 1, out));
  CHECK(out == R"([{"id":9007199254740991,"score":1,"retrieval_score":1,"retrieval_rank":1}])");
  CHECK(!belfry::items_json(ids, {rows, scores, {}, {}}, 2, out));
  CHECK(!belfry::items_json(ids, {rows, scores, {}, {}}, 3, out));  // more than there are
  const std::vector<float> broken{std::numeric_limits<float>::infinity(), 1};
  CHECK(!belfry::items_json(ids, {rows, broken, {}, {}}, 1, out));
  const std::vector<uint32_t> order{5, 0};
  CHECK(!belfry::items_json(ids, {rows, scores, order, {}}, 1, out));
}

}  // namespace
