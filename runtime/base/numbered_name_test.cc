#include "runtime/base/numbered_name.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

TEST(NumberedName, EndsInANumber) {
  EXPECT_EQ(NumberedName::Parse("w-12"), (NumberedName{"w-", 12}));
  EXPECT_EQ(NumberedName::Parse("gpu-0-3"), (NumberedName{"gpu-0-", 3}));
  EXPECT_EQ(NumberedName::Parse("-0"), (NumberedName{"-", 0}));
  for (const char* wrong : {"", "w", "12", "w-", "w-1a", "w- 1", "w-99999999999999999999"}) {
    EXPECT_EQ(NumberedName::Parse(wrong), std::nullopt) << wrong;
  }
}

TEST(NumberedName, IsOrderedByStemAndNumber) {
  EXPECT_LT(NumberedName::Parse("w-9"), NumberedName::Parse("w-10"));
  EXPECT_LT(NumberedName::Parse("a-10"), NumberedName::Parse("w-9"));
}

}  // namespace
}  // namespace muster
