// Two members train and one joins, each with its real engine: the joiner must end with every bit that the members have.
#include "runtime/train/catch_up.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "collectives/inproc/inproc.h"
#include "runtime/base/pause.h"
#include "runtime/train/testing/through_host.h"

namespace muster {
namespace {

constexpr uint64_t kOld = 1;
constexpr uint64_t kNew = 2;
constexpr int kMembers = 2;
constexpr int kMicroBatches = 4;

// SGD, at a speed of the test's choice.
class SlowOptimizer : public Optimizer {
 public:
  std::string Describe() const override { return sgd_->Describe(); }
  std::vector<std::string> Slots() const override { return sgd_->Slots(); }
  void Update(const UpdateContext& context, std::span<float> parameter,
              std::span<const float> gradient,
              std::span<const std::span<float>> slots) const override {
    (void)PauseFor(delay, {});
    sgd_->Update(context, parameter, gradient, slots);
  }
  std::optional<UpdateRule> Rule(const UpdateContext& context) const override {
    (void)PauseFor(delay, {});
    return sgd_->Rule(context);
  }

  std::chrono::microseconds delay{0};

 private:
  const std::unique_ptr<Optimizer> sgd_ = Sgd({.momentum = 0.9});
};

SessionSpec MakeSpec(const Optimizer& optimizer) {
  SessionSpec spec;
  spec.parameters = {{"a", {70, 100}}, {"b", {5}}, {"c", {3000}}};
  spec.optimizer = &optimizer;
  spec.options.micro_batches = kMicroBatches;
  spec.options.batch_size = 2;
  spec.options.clip_norm = 0.5;
  spec.options.steps = 1'000'000;
  spec.dataset_size = 101;
  return spec;
}

// Its magnitude changes from step to step, so that exponents are raised in the middle of a join.
Result<double> Compute(const MicroBatch& batch, ConstTensors parameters, Tensors gradients) {
  Random random = batch.random;
  const float scale = std::ldexp(1.0F, static_cast<int>(batch.step % 17));
  for (size_t i = 0; i < parameters.size(); ++i) {
    for (size_t j = 0; j < parameters[i].size(); ++j) {
      gradients[i][j] += 0.1F * parameters[i][j] + scale * random.Normal();
    }
  }
  return 1.0;
}

struct Way {
  Reduce reduce;
  bool on_gpu;
};

class CatchUpTest : public testing::TestWithParam<Way> {
 protected:
  struct Member {
    std::unique_ptr<cuda::Device> gpu;  // null: it trains on the CPU
    ComputeMicroBatch compute = Compute;
    std::unique_ptr<Backend> backend;
    std::unique_ptr<StepEngine> engine;
    std::unique_ptr<CatchUp> catch_up;
    std::unique_ptr<Communicator> old_world;  // members only
    std::unique_ptr<Communicator> new_world;
    std::atomic<bool> ready{false};
    std::atomic<bool> whole{false};
    std::atomic<bool> lost{false};
    std::vector<std::string> notices;
    Status run;
  };

  void SetUp() override {
    const auto fabric = CreateInprocFabric();
    for (int i = 0; i <= kMembers; ++i) {
      members_.push_back(std::make_unique<Member>());
      members_.back()->backend = CreateInprocBackend(fabric, fmt::format("m-{}", i));
    }
  }

  void Prepare(JoinMode mode) {
    for (auto& member : members_) {
      const bool joins = &member == &members_.back();
      if (GetParam().on_gpu) {
        member->gpu = *cuda::Device::Open(0);
        member->compute = ThroughHost(*member->gpu, Compute);
      }
      member->engine =
          *StepEngine::Create(MakeSpec(joins ? joiner_optimizer_ : optimizer_), GetParam().reduce,
                              *member->backend, {member->gpu.get(), ""});
      Member* self = member.get();
      member->catch_up = std::make_unique<CatchUp>(
          *member->engine, *member->backend, mode,
          CatchUp::Callbacks{[self] { self->lost = true; }, [self] { self->whole = true; },
                             [self](const std::string& kind, const std::string&) {
                               self->notices.push_back(kind);
                             }});
      if (!joins) member->engine->state().set_all_page_versions(0);
    }
    Connect(kOld, kMembers);
    Connect(kNew, kMembers + 1);
  }

  void Connect(uint64_t generation, int size) {
    ConnectRequest request;
    request.generation = generation;
    for (int i = 0; i < size; ++i) {
      request.peers.push_back(
          {fmt::format("m-{}", i), members_[static_cast<size_t>(i)]->backend->address()});
    }
    std::vector<std::jthread> threads;
    for (int i = 0; i < size; ++i) {
      threads.emplace_back([&, request, i]() mutable {
        request.rank = i;
        Member& member = *members_[static_cast<size_t>(i)];
        (generation == kOld ? member.old_world : member.new_world) =
            *member.backend->Connect(request, {});
      });
    }
  }

  // Trains until all have voted for the new generation, or `steps` steps are done; whether they have.
  bool Train(Member& member, uint64_t steps) {
    const MicroBatchRange share =
        ShareOf(member.old_world->rank(), member.old_world->size(), kMicroBatches);
    while (member.engine->state().step() < steps) {
      EXPECT_TRUE(member.engine->Compute(share, member.compute));
      (void)PauseFor(pace_, {});
      EXPECT_TRUE(member.engine->ReduceAndVote(*member.old_world, member.ready ? kNew : 0, false));
      EXPECT_TRUE(member.engine->ApplyOutcome());
      ++steps_;
      const uint64_t next = member.engine->outcome().SwitchTo(kOld);
      EXPECT_TRUE(member.catch_up->AfterOutcome(0, next));  // one strip a step
      if (next == kNew) {
        member.catch_up->AwaitEnd(kNew);
        return true;
      }
    }
    return false;
  }

  void Run(uint64_t steps) {
    std::vector<std::jthread> threads;
    for (auto& member : members_) {
      Member& self = *member;
      threads.emplace_back([&] {
        self.run = self.catch_up->Run(
            *self.new_world, self.old_world ? kOld : 0,
            [&](const std::vector<int>& veterans) {
              EXPECT_EQ(veterans, (std::vector<int>{0, 1}));
              self.ready = true;
            },
            stop_.get_token());
      });
    }
    std::vector<std::jthread> trainers;
    for (auto& member : members_) {
      if (!member->old_world) continue;
      trainers.emplace_back([&, self = member.get()] {
        if (Train(*self, steps)) ++switched_;
      });
    }
    trainers.clear();
    if (switched_ < kMembers) stop_.request_stop();
    threads.clear();
    for (auto& member : members_) EXPECT_TRUE(member->engine->FetchState());
  }

  Member& joiner() { return *members_.back(); }

  std::vector<std::unique_ptr<Member>> members_;
  SlowOptimizer optimizer_;
  SlowOptimizer joiner_optimizer_;
  std::chrono::microseconds pace_{1000};
  std::stop_source stop_;
  std::atomic<int> steps_{0};
  std::atomic<int> switched_{0};
};

TEST_P(CatchUpTest, AJoinerThatFollowsHasEveryBit) {
  pace_ =
      std::chrono::milliseconds(50);  // so that a machine with other work does not make it too slow
  Prepare(JoinMode::kFlat);
  Run(2000);
  EXPECT_EQ(switched_, kMembers);
  ASSERT_TRUE(joiner().run) << joiner().run.error().message;
  EXPECT_TRUE(joiner().lost) << "told before its state was changed";
  EXPECT_TRUE(joiner().whole);
  EXPECT_EQ(joiner().notices, std::vector<std::string>{"caught-up"});
  State& mine = joiner().engine->state();
  State& theirs = members_[0]->engine->state();
  EXPECT_GT(theirs.step(), 5u) << "strips have come at several steps";
  EXPECT_TRUE(std::ranges::equal(mine.image(), theirs.image()));
  for (size_t page = 0; page < mine.pages(); ++page) {
    EXPECT_EQ(mine.page_version(page), theirs.position());
  }
}

TEST_P(CatchUpTest, OneThatIsTooSlowIsToldSoAndCopiesTheState) {
  joiner_optimizer_.delay = std::chrono::milliseconds(20);
  Prepare(JoinMode::kFlat);
  Run(2000);
  EXPECT_EQ(switched_, kMembers) << "nobody is kept out";
  ASSERT_TRUE(joiner().run) << joiner().run.error().message;
  EXPECT_FALSE(joiner().whole);
  EXPECT_EQ(joiner().notices, std::vector<std::string>{"join-slow"});
  EXPECT_LT(members_[0]->engine->state().step(), 1000u);
}

TEST_P(CatchUpTest, ASmallStateIsCopied) {
  Prepare(JoinMode::kAuto);
  Run(2000);
  EXPECT_EQ(switched_, kMembers);
  EXPECT_FALSE(joiner().whole);
  EXPECT_FALSE(joiner().lost) << "what it has is kept until something better comes";
  EXPECT_TRUE(joiner().notices.empty());
  EXPECT_LT(members_[0]->engine->state().step(), 1000u);
}

TEST_P(CatchUpTest, TheMembersTrainOnWhenTheJoinerDies) {
  joiner_optimizer_.delay = std::chrono::milliseconds(2);
  Prepare(JoinMode::kFlat);
  std::jthread death([&] {
    while (steps_ < 3 * kMembers) std::this_thread::yield();
    joiner().new_world->Revoke("the joiner dies");
  });
  Run(100);
  EXPECT_EQ(switched_, 0);
  EXPECT_FALSE(members_[0]->run);
  EXPECT_FALSE(joiner().whole);
  EXPECT_EQ(members_[0]->engine->state().step(), 100u);
  EXPECT_TRUE(std::ranges::equal(members_[0]->engine->state().image(),
                                 members_[1]->engine->state().image()));
}

// A planned generation may be ordered when the one before is over for everybody: then all of them do the work of its first step.
TEST_P(CatchUpTest, WhereNobodyTrainsAllAreToldSo) {
  Prepare(JoinMode::kFlat);
  std::vector<std::jthread> threads;
  for (auto& member : members_) {
    threads.emplace_back([&, self = member.get()] {
      self->run = self->catch_up->Run(*self->new_world, 0,
                                      [&](const std::vector<int>& veterans) {
                                        EXPECT_TRUE(veterans.empty());
                                        self->ready = true;
                                      },
                                      {});
    });
  }
  threads.clear();
  for (auto& member : members_) {
    EXPECT_TRUE(member->run);
    EXPECT_TRUE(member->ready);
    EXPECT_FALSE(member->lost);
  }
}

TEST_P(CatchUpTest, ARoundThatMakesNoSenseIsRefused) {
  Prepare(JoinMode::kFlat);
  std::jthread liar([&] {
    RoundHeader header;
    header.kind = RoundHeader::kRecord;
    header.added = 1'000'000;
    (void)members_[0]->new_world->Exchange(
        std::vector<SendTo>{{kMembers, std::as_bytes(std::span(&header, 1))}}, {});
  });
  const std::vector<int> donors = {0};
  const auto followed = Follower(*joiner().new_world, *joiner().engine, donors, [] {}).Run();
  ASSERT_FALSE(followed);
  EXPECT_EQ(followed.error().code, Code::kInvalidArgument);
  EXPECT_NE(followed.error().message.find("1000000 strips"), std::string::npos)
      << followed.error().message;
}

INSTANTIATE_TEST_SUITE_P(Ways, CatchUpTest,
                         testing::Values(Way{Reduce::kExact, false}, Way{Reduce::kFloat, false},
                                         Way{Reduce::kExact, true}, Way{Reduce::kFloat, true}),
                         [](const auto& info) {
                           return fmt::format(
                               "{}{}", info.param.reduce == Reduce::kExact ? "Exact" : "Float",
                               info.param.on_gpu ? "OnGpu" : "");
                         });

}  // namespace
}  // namespace muster
