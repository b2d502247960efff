// What `launcher doctor` finds of GPUs, on the stand-ins.
#include "launcher/verbs/gpus.h"

#include <gmock/gmock.h>

#include "tests/cuda/standins.h"

namespace muster {
namespace {

using testing::HasSubstr;

constexpr cuda::HealthOptions kBrief{
    .memory_bytes = 1 << 20, .rounds = 16, .timeout = std::chrono::minutes(1)};

TEST(Gpus, AreListedWithTheirHealthAndNccl) {
  ASSERT_TRUE(FindGpus());
  const auto findings = CheckGpus(kBrief);
  ASSERT_EQ(findings.size(), 2U);
  EXPECT_EQ(findings[0].what, "GPU");
  EXPECT_TRUE(findings[0].ok);
  EXPECT_THAT(findings[0].detail, HasSubstr("cuda:0 (stand-in GPU, 1 GiB) at 0000:00:00.0, "));
  EXPECT_EQ(findings[1].what, "NCCL");
  EXPECT_EQ(findings[1].detail, "2.32.3");
}

TEST(Gpus, ThatAreSickAreNamed) {
  ToDriver<decltype(standin_spoil)>("standin_spoil")("health_write");
  const auto findings = CheckGpus(kBrief);
  EXPECT_FALSE(findings[0].ok);
  EXPECT_THAT(findings[0].detail, HasSubstr("cuda:0 (stand-in GPU, 1 GiB) is not in order"));
}

}  // namespace
}  // namespace muster
