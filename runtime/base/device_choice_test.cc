#include "runtime/base/device_choice.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

TEST(DeviceChoice, IsWhatUsersSay) {
  using Kind = DeviceChoice::Kind;
  EXPECT_EQ(DeviceChoice::Parse("auto")->kind, Kind::kAuto);
  EXPECT_EQ(DeviceChoice::Parse("cpu")->kind, Kind::kCpu);
  EXPECT_EQ(DeviceChoice::Parse("cuda")->kind, Kind::kCuda);
  EXPECT_EQ(DeviceChoice::Parse("cuda")->ordinal, -1);
  EXPECT_EQ(DeviceChoice::Parse("cuda:11")->kind, Kind::kCuda);
  EXPECT_EQ(DeviceChoice::Parse("cuda:11")->ordinal, 11);
  for (const char* wrong : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999999999", "CPU"}) {
    EXPECT_FALSE(DeviceChoice::Parse(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace muster
