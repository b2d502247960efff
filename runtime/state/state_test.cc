#include "runtime/state/state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace muster {
namespace {

std::vector<TensorSpec> SomeTensors() {
  return {{"parameter/w", "F32", {3, 5}},
          {"parameter/b", "F32", {}},
          {"parameter/none", "F32", {0, 4}},
          {"exact/exponents", "I16", {3}},
          {"counters", "I64", {2}}};
}

bool IsAligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kTensorAlignment == 0;
}

TEST(State, StartsWithZerosAtStep0) {
  const State state(SomeTensors());
  EXPECT_EQ(state.step(), 0u);
  EXPECT_TRUE(std::ranges::all_of(state.image(), [](std::byte b) { return b == std::byte{}; }));
  EXPECT_EQ(state.page_version(0), 0u);
}

TEST(State, LaysTensorsOneAfterTheOtherAlignedTo64Bytes) {
  State state(SomeTensors());
  EXPECT_EQ(state.tensor_bytes(0).data() - state.image().data(), 128);
  EXPECT_EQ(state.tensor_bytes(1).data() - state.image().data(), 192);
  EXPECT_EQ(state.tensor_bytes(2).size(), 0u);
  EXPECT_EQ(state.tensor_bytes(3).data() - state.image().data(), 256);
  EXPECT_EQ(state.tensor_bytes(4).data() - state.image().data(), 320);
  EXPECT_EQ(state.image().size(), 384u);
  for (size_t i = 0; i < state.tensors().size(); ++i) {
    EXPECT_TRUE(IsAligned(state.tensor_bytes(i).data())) << i;
  }
  EXPECT_EQ(state.tensor<float>(0).size(), 15u);
  EXPECT_EQ(state.tensor<float>(1).size(), 1u);
  EXPECT_EQ(state.tensor<int16_t>(3).size(), 3u);
  EXPECT_EQ(state.tensor<int64_t>(4).size(), 2u);
}

TEST(State, TheHeaderIsTheHeadOfTheImage) {
  State state(SomeTensors());
  state.header().step = 7;
  state.header().loss = 0.25;
  StateHeader copy;
  std::memcpy(&copy, state.image().data(), sizeof copy);
  EXPECT_EQ(copy.step, 7u);
  EXPECT_EQ(copy.loss, 0.25);
  EXPECT_EQ(state.step(), 7u);
}

TEST(State, ACopyIsIndependentAndAligned) {
  State state(SomeTensors());
  state.tensor<float>(0)[14] = 3.5f;
  State copy = state;
  state.tensor<float>(0)[14] = 1.0f;
  EXPECT_EQ(copy.tensor<float>(0)[14], 3.5f);
  EXPECT_TRUE(IsAligned(copy.image().data()));
}

TEST(State, PagesCoverTheImageAndTheLastMayBeShort) {
  State state({{"w", "F32", {100000}}, {"v", "F32", {50000}}});
  ASSERT_EQ(state.pages(), 3u);
  size_t covered = 0;
  for (size_t i = 0; i < state.pages(); ++i) {
    EXPECT_EQ(state.page(i).data(), state.image().data() + covered);
    covered += state.page(i).size();
  }
  EXPECT_EQ(covered, state.image().size());
  EXPECT_EQ(state.page(0).size(), kPageBytes);
  EXPECT_LT(state.page(2).size(), kPageBytes);
}

TEST(State, AnImageOfWholePagesHasNoEmptyPage) {
  const State state({{"w", "F32", {(2 * kPageBytes - sizeof(StateHeader)) / 4}}});
  EXPECT_EQ(state.image().size(), 2 * kPageBytes);
  EXPECT_EQ(state.pages(), 2u);
}

TEST(State, PageVersionsAreSetOneByOneOrTogether) {
  State state({{"w", "F32", {100000}}});
  state.set_page_version(1, 5);
  EXPECT_EQ(state.page_version(0), 0u);
  EXPECT_EQ(state.page_version(1), 5u);
  state.set_all_page_versions(6);
  EXPECT_EQ(state.page_version(0), 6u);
  EXPECT_EQ(state.page_version(1), 6u);
}

TEST(State, SchemaHashTellsNamesTypesShapesAndOrderApart) {
  const uint64_t hash = State({{"a", "F32", {2, 3}}, {"b", "F32", {4}}}).schema_hash();
  EXPECT_EQ(hash, State({{"a", "F32", {2, 3}}, {"b", "F32", {4}}}).schema_hash());
  EXPECT_NE(hash, State({{"c", "F32", {2, 3}}, {"b", "F32", {4}}}).schema_hash());
  EXPECT_NE(hash, State({{"a", "I64", {2, 3}}, {"b", "F32", {4}}}).schema_hash());
  EXPECT_NE(hash, State({{"a", "F32", {3, 2}}, {"b", "F32", {4}}}).schema_hash());
  EXPECT_NE(hash, State({{"b", "F32", {4}}, {"a", "F32", {2, 3}}}).schema_hash());
  EXPECT_NE(hash, State({{"a", "F32", {2, 3}}}).schema_hash());
  EXPECT_NE(State({{"a", "F32", {1, 1}}}).schema_hash(), State({{"a", "F32", {11}}}).schema_hash());
}

TEST(StateDeathTest, RefusesWhatNoStateCanHold) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(State({{"a", "F32", {1}}, {"a", "F32", {1}}}), "two tensors named a");
  EXPECT_DEATH(State({{"a", "F16", {1}}}), "type F16");
  EXPECT_DEATH(State({{"a", "F32", {-1}}}), "F32\\[-1\\]");
  EXPECT_DEATH(State({{"a", "F32", {int64_t{1} << 40, int64_t{1} << 40}}}), "a is F32");
  EXPECT_DEATH(State({{"a", "F32", {1}}}).tensor<double>(0), "F32\\[1\\]");
}

}  // namespace
}  // namespace muster
