// The health check, on a stand-in for the driver that can be made to forget and to miscount.
#include "runtime/cuda/health.h"

#include <gmock/gmock.h>

#include "tests/cuda/standins.h"

namespace muster::cuda {
namespace {

using testing::HasSubstr;

class HealthOfADevice : public testing::Test {
 protected:
  Result<Health> Check() { return CheckHealth(*device_, options_); }
  Error Complaint() {
    const auto health = Check();
    EXPECT_FALSE(health);
    return health ? Error{} : health.error();
  }
  static void Spoil(const char* kernel) {
    ToDriver<decltype(standin_spoil)>("standin_spoil")(kernel);
  }
  static void Hold(bool hold) { ToDriver<decltype(standin_hold)>("standin_hold")(hold ? 1 : 0); }

  HealthOptions options_{.memory_bytes = 1 << 20, .rounds = 32, .timeout = std::chrono::minutes(1)};
  std::unique_ptr<Device> device_ = std::move(*Device::Open(0));
};

TEST_F(HealthOfADevice, IsGoodWhereAllIsInOrder) {
  const auto health = Check();
  ASSERT_TRUE(health) << health.error().ToString();
  EXPECT_GT(health->bytes_per_second, 0);
}

TEST_F(HealthOfADevice, SuffersFromMemoryThatForgets) {
  Spoil("health_write");
  const Error error = Complaint();
  EXPECT_EQ(error.code, Code::kDataLoss);
  // Where it was written, and in the copy.
  EXPECT_THAT(error.message, HasSubstr("cuda:0 (stand-in GPU, 1 GiB) is not in order: 2 of 256"));
}

TEST_F(HealthOfADevice, SuffersFromArithmeticThatErrs) {
  Spoil("health_compute");
  const Error error = Complaint();
  EXPECT_EQ(error.code, Code::kDataLoss);
  EXPECT_THAT(error.message, HasSubstr("1 of 131072 computations were wrong"));
}

TEST_F(HealthOfADevice, SuffersFromSlowness) {
  options_.least_bytes_per_second = 1e18;
  const Error error = Complaint();
  EXPECT_EQ(error.code, Code::kFailedPrecondition);
  EXPECT_THAT(error.message, HasSubstr("GB/s in its memory, less than 1000000000"));
}

TEST_F(HealthOfADevice, IsNotWaitedForForEver) {
  options_.timeout = std::chrono::milliseconds(1);
  Hold(true);
  const Error error = Complaint();
  Hold(false);
  EXPECT_EQ(error.code, Code::kDeadlineExceeded);
  EXPECT_THAT(error.message, HasSubstr("the check of its memory on cuda:0"));
}

TEST_F(HealthOfADevice, NeedsSomeMemory) {
  options_.memory_bytes = 100;
  EXPECT_EQ(Complaint().code, Code::kInvalidArgument);
  options_.memory_bytes = size_t{4} << 30;
  EXPECT_EQ(Complaint().code, Code::kResourceExhausted);
}

}  // namespace
}  // namespace muster::cuda
