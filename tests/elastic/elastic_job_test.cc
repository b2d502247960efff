// Whole jobs in one process; the oracle is the weights hash of the same program training alone.
#include <gtest/gtest.h>

#include <random>

#include "collectives/host/host.h"
#include "collectives/inproc/inproc.h"
#include "tests/elastic/in_process_job.h"

namespace muster {
namespace {

constexpr auto kLong = std::chrono::seconds(60);

enum class Transport { kInproc, kShared, kTcp };

std::string TransportName(const testing::TestParamInfo<Transport>& info) {
  switch (info.param) {
    case Transport::kInproc:
      return "Inproc";
    case Transport::kShared:
      return "HostShared";
    case Transport::kTcp:
      return "HostTcp";
  }
  return "?";
}

class ElasticJob : public testing::TestWithParam<Transport> {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("muster-elastic-{}-{}", ::getpid(), counter_++);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  JobSetup SetupOf(uint64_t steps, int min_workers, int max_workers) {
    JobSetup setup;
    setup.options.steps = steps;
    setup.options.micro_batches = 12;
    setup.options.batch_size = 5;
    setup.coordinator.min_workers = min_workers;
    setup.coordinator.max_workers = max_workers;
    setup.coordinator.heartbeat_timeout = std::chrono::seconds(10);
    setup.coordinator.join_window = std::chrono::milliseconds(10);
    setup.job_dir = folder_;
    if (GetParam() == Transport::kInproc) {
      setup.backend = [fabric = CreateInprocFabric()](const std::string& id, uint64_t incarnation) {
        return CreateInprocBackend(fabric, fmt::format("{}/{}", id, incarnation));
      };
    } else {
      setup.backend = [shared = GetParam() == Transport::kShared](const std::string&, uint64_t) {
        HostOptions options;
        options.job = "test";
        options.secret = "a secret of the test job";
        options.shared_memory = shared;
        return *CreateHostBackend(options);
      };
    }
    return setup;
  }

  static void ExpectSame(const std::optional<FinishJob>& end, const RunResult& expected) {
    ASSERT_TRUE(end.has_value()) << "the job did not end in time";
    ASSERT_EQ(end->phase, Phase::kSucceeded) << end->message;
    ASSERT_TRUE(end->result.has_value());
    EXPECT_EQ(end->result->weights, expected.weights);
    EXPECT_EQ(end->result->loss, expected.loss);
    EXPECT_EQ(end->result->step, expected.step);
    EXPECT_EQ(end->result->samples_consumed, expected.samples_consumed);
    EXPECT_EQ(end->result->misses, expected.misses);
  }

  std::filesystem::path folder_;
  static inline int counter_ = 0;
};

TEST_P(ElasticJob, GivesTheSameBitsForEveryWorldSize) {
  const RunResult expected = TrainAlone(SetupOf(40, 1, 1));
  EXPECT_GT(expected.misses, 0u) << "the test should exercise misses";
  for (const int workers : {1, 2, 3, 5, 8}) {
    InProcessJob job(SetupOf(40, workers, workers));
    job.Start();
    ExpectSame(job.WaitEnd(kLong), expected);
  }
}

TEST_P(ElasticJob, GivesTheSameBitsThroughDeathsAndResizes) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  JobSetup setup = SetupOf(400, 1, 3);
  const RunResult expected = TrainAlone(setup);
  setup.compute_time = std::chrono::microseconds(100);
  setup.join = random() % 2 == 0 ? JoinMode::kFlat : JoinMode::kPlain;
  InProcessJob job(setup);
  job.Start();
  for (uint64_t step = 10; step < 380; step += 1 + random() % 25) {
    ASSERT_TRUE(job.WaitStep(step, kLong)) << "stuck before step " << step;
    const std::vector<std::string> members = job.Members();
    const auto victim = [&] { return members[random() % members.size()]; };
    switch (random() % 5) {
      case 0:
        job.Resize(1, 1 + static_cast<int>(random() % 8));
        break;
      case 1:
        job.RestartCoordinator();
        break;
      case 2:
        if (members.size() > 2) job.Kill(victim());
        [[fallthrough]];
      default:
        if (members.size() > 1) job.Kill(victim());
    }
  }
  ExpectSame(job.WaitEnd(kLong), expected);
}

// Each join ends with a joiner that has caught up while the others trained on.
TEST_P(ElasticJob, GivesTheSameBitsWhenJoinersFollow) {
  JobSetup setup = SetupOf(400, 1, 3);
  const RunResult expected = TrainAlone(setup);
  setup.compute_time = std::chrono::milliseconds(2);
  setup.join = JoinMode::kFlat;
  InProcessJob job(setup);
  job.Start();
  int joins = 0;
  for (uint64_t step = 20; step < 340; step += 40, ++joins) {
    ASSERT_TRUE(job.WaitStep(step, kLong)) << "stuck before step " << step;
    job.Resize(1, 3 + joins % 2 * 2);
  }
  ExpectSame(job.WaitEnd(kLong), expected);
  int caught_up = 0;
  for (const EmitEvent& event : job.events()) caught_up += event.kind == "caught-up" ? 1 : 0;
  EXPECT_GT(caught_up, 0);
}

TEST_P(ElasticJob, StopsAtOneStepAndResumesFromItsCheckpoint) {
  JobSetup setup = SetupOf(300, 3, 3);
  const RunResult expected = TrainAlone(setup);
  setup.checkpoint = folder_ / "checkpoints";
  setup.checkpoint_every = 50;
  setup.compute_time = std::chrono::microseconds(100);
  {
    InProcessJob job(setup);
    job.Start();
    ASSERT_TRUE(job.WaitStep(70, kLong));
    job.Stop();
    const auto end = job.WaitEnd(kLong);
    ASSERT_TRUE(end.has_value());
    EXPECT_EQ(end->phase, Phase::kStopped);
    EXPECT_TRUE(end->result->stopped);
    EXPECT_LT(end->result->step, 300u);
  }
  setup.resume = true;
  setup.coordinator.min_workers = setup.coordinator.max_workers = 2;
  InProcessJob job(setup);
  job.Start();
  ExpectSame(job.WaitEnd(kLong), expected);
}

TEST_P(ElasticJob, StartsAgainWhenAllMembersAreLost) {
  JobSetup setup = SetupOf(200, 2, 2);
  const RunResult expected = TrainAlone(setup);
  setup.compute_time = std::chrono::microseconds(100);
  InProcessJob job(setup);
  job.Start();
  ASSERT_TRUE(job.WaitStep(50, kLong));
  job.Kill("w-0");
  job.Kill("w-1");
  ExpectSame(job.WaitEnd(kLong), expected);
}

INSTANTIATE_TEST_SUITE_P(Transports, ElasticJob,
                         testing::Values(Transport::kInproc, Transport::kShared, Transport::kTcp),
                         TransportName);

}  // namespace
}  // namespace muster
