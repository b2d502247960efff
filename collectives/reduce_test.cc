#include "collectives/reduce.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

namespace muster {
namespace {

TEST(ReduceInOrder, SumsFloatsFromTheFirstInputToTheLast) {
  // Only ((1e8 + 1) - 1e8) + 1 is 1: every other order gives 0 or 2.
  const std::vector<float> a(5000, 1e8f), b(5000, 1.0f), c(5000, -1e8f), d(5000, 1.0f);
  std::vector<float> out(5000);
  ReduceInOrder<float>(ReduceOp::kSum, std::array{a.data(), b.data(), c.data(), d.data()}, out);
  EXPECT_EQ(out, std::vector<float>(5000, 1.0f));
}

TEST(ReduceInOrder, AllowsTheOutputToBeAnyInput) {
  for (size_t own = 0; own < 4; ++own) {
    std::vector<std::vector<float>> values{
        std::vector<float>(3001, 1e8f), std::vector<float>(3001, 1.0f),
        std::vector<float>(3001, -1e8f), std::vector<float>(3001, 1.0f)};
    std::vector<const float*> inputs;
    for (const auto& v : values) inputs.push_back(v.data());
    ReduceInOrder<float>(ReduceOp::kSum, inputs, values[own]);
    EXPECT_EQ(values[own], std::vector<float>(3001, 1.0f)) << "output is input " << own;
  }
}

TEST(ReduceInOrder, WrapsIntegerSums) {
  const int32_t max = std::numeric_limits<int32_t>::max();
  const int32_t one = 1;
  int32_t out = 0;
  ReduceInOrder<int32_t>(ReduceOp::kSum, std::array<const int32_t*, 2>{&max, &one}, {&out, 1});
  EXPECT_EQ(out, std::numeric_limits<int32_t>::min());
}

TEST(ReduceInOrder, TakesMaximumAndMinimum) {
  const std::array<int64_t, 3> a{1, -5, 7}, b{2, -6, 7};
  std::array<int64_t, 3> out{};
  ReduceInOrder<int64_t>(ReduceOp::kMax, std::array{a.data(), b.data()}, out);
  EXPECT_EQ(out, (std::array<int64_t, 3>{2, -5, 7}));
  ReduceInOrder<int64_t>(ReduceOp::kMin, std::array{a.data(), b.data()}, out);
  EXPECT_EQ(out, (std::array<int64_t, 3>{1, -6, 7}));
}

}  // namespace
}  // namespace muster
