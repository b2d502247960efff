// A training run whose arithmetic is done on a GPU, or on the stand-in for one, against the same run on the CPU: equal bits after every
// step.
#include "runtime/train/cuda/device_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <thread>

#include "collectives/inproc/inproc.h"
#include "collectives/nccl/library.h"
#include "collectives/nccl/nccl.h"
#include "runtime/base/log.h"
#include "runtime/train/step_engine.h"
#include "runtime/train/testing/through_host.h"
#include "tests/cuda/standins.h"

namespace muster {
namespace {

constexpr int kMicroBatches = 4;
constexpr uint64_t kSteps = 40;  // exponents lose a bit in two of them

struct Way {
  const char* name;
  Reduce reduce;
  int lane_bits;
  bool adamw;
  double clip_norm;
};

// Its magnitude changes from step to step, so that steps miss; parameters that no step has moved are among them.
Result<double> Compute(const MicroBatch& batch, ConstTensors parameters, Tensors gradients) {
  Random random = batch.random;
  const float scale = std::ldexp(1.0F, static_cast<int>(batch.step % 17));
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (i == 1 && batch.step < 3) continue;
    for (size_t j = 0; j < parameters[i].size(); ++j) {
      gradients[i][j] += 0.1F * parameters[i][j] + scale * random.Normal();
    }
  }
  return static_cast<double>(batch.index) + 0.25;
}

class DeviceMathTest : public testing::TestWithParam<Way> {
 protected:
  // Before there are threads: ThreadSanitizer does not see into the library of the log.
  static void SetUpTestSuite() { InitLog("device_math_test", "warn"); }
  void SetUp() override {
    auto device = cuda::Device::Open(0);
    if (!device && std::getenv("MUSTER_NEED_GPU") != nullptr) FAIL() << device.error().ToString();
    if (!device) GTEST_SKIP() << device.error().ToString();
    device_ = std::move(*device);
    optimizer_ = GetParam().adamw ? AdamW() : Sgd({.momentum = 0.9, .nesterov = true});
    spec_.parameters = {{"a", {70, 100}}, {"b", {5}}, {"c", {3000}}};
    spec_.optimizer = optimizer_.get();
    spec_.options.micro_batches = kMicroBatches;
    spec_.options.batch_size = 2;
    spec_.options.lane_bits = GetParam().lane_bits;
    spec_.options.clip_norm = GetParam().clip_norm;
    spec_.options.non_finite = NonFinite::kSkip;
    spec_.options.learning_rate = WarmupRate(0.01, 10);
    spec_.dataset_size = 101;
    on_host_ = Make({});
    on_device_ = Make({device_.get(), "none"});
    communicator_ =
        *backend_->Connect({.generation = 1, .peers = {{"m-0", backend_->address()}}}, {});
  }

  std::unique_ptr<StepEngine> Make(const StepDevice& on) {
    auto engine = StepEngine::Create(spec_, GetParam().reduce, *backend_, on);
    EXPECT_TRUE(engine) << engine.error().ToString();
    return std::move(*engine);
  }

  void Step(StepEngine& engine, const ComputeMicroBatch& compute) {
    ASSERT_TRUE(engine.Compute({0, kMicroBatches}, compute));
    const Status voted = engine.ReduceAndVote(*communicator_, 0, false);
    ASSERT_TRUE(voted) << voted.error().ToString();
    ASSERT_TRUE(engine.ApplyOutcome());
  }

  // One step of both, with gradients and losses of `compute`.
  void StepBoth(const ComputeMicroBatch& compute) {
    Step(*on_host_, compute);
    Step(*on_device_, ThroughHost(*device_, compute));
    ASSERT_TRUE(on_device_->FetchState());
    ASSERT_TRUE(std::ranges::equal(on_device_->state().image(), on_host_->state().image()))
        << "position " << on_host_->position();
    EXPECT_EQ(on_device_->summary().gradient_norm, on_host_->summary().gradient_norm);
  }

  std::unique_ptr<cuda::Device> device_;
  std::unique_ptr<Optimizer> optimizer_;
  SessionSpec spec_;
  const std::unique_ptr<Backend> backend_ = CreateInprocBackend(CreateInprocFabric(), "m-0");
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<StepEngine> on_host_;
  std::unique_ptr<StepEngine> on_device_;
};

TEST_P(DeviceMathTest, TakesTheStepsOfTheHost) {
  while (on_host_->state().step() < kSteps) ASSERT_NO_FATAL_FAILURE(StepBoth(Compute));
  EXPECT_EQ(on_host_->state().header().misses > 1, GetParam().reduce == Reduce::kExact);
  EXPECT_EQ(on_device_->state().header().loss, 1.75);
}

TEST_P(DeviceMathTest, SeesWhatIsNotFinite) {
  ASSERT_NO_FATAL_FAILURE(StepBoth(Compute));
  const uint64_t skipped = on_device_->state().header().skipped;
  StepBoth([](const MicroBatch& batch, ConstTensors parameters, Tensors gradients) {
    const auto loss = Compute(batch, parameters, gradients);
    if (batch.index == 2) gradients[0][17] = std::numeric_limits<float>::infinity();
    return loss;
  });
  EXPECT_EQ(on_device_->state().header().skipped, skipped + 1) << "a gradient";
  StepBoth([](const MicroBatch& batch, ConstTensors parameters, Tensors gradients) {
    const auto loss = Compute(batch, parameters, gradients);
    return batch.index == 1 ? std::numeric_limits<double>::quiet_NaN() : loss;
  });
  EXPECT_EQ(on_device_->state().header().skipped, skipped + 2) << "a loss";
}

TEST_P(DeviceMathTest, GoesOnAfterAStepThatWasGivenUp) {
  const ComputeMicroBatch good = ThroughHost(*device_, Compute);
  const ComputeMicroBatch bad = [&](const MicroBatch& batch, ConstTensors parameters,
                                    Tensors gradients) -> Result<double> {
    if (batch.index == 2) return Err(Code::kAborted, "the generation is over");
    return good(batch, parameters, gradients);
  };
  for (int i = 0; i < 3; ++i) {
    const auto computed = on_device_->Compute({0, kMicroBatches}, bad);
    ASSERT_FALSE(computed);
    EXPECT_EQ(computed.error().code, Code::kAborted);
    ASSERT_NO_FATAL_FAILURE(StepBoth(Compute));
  }
}

// What a donor gives, and a joiner does with it: strips at one position, brought forward by the sums of the next step.
TEST_P(DeviceMathTest, BringsStripsForward) {
  for (int i = 0; i < 3; ++i) ASSERT_NO_FATAL_FAILURE(StepBoth(Compute));
  const auto joiner = Make({device_.get(), "none"});
  std::vector<size_t> strips;
  for (size_t strip = 0; strip < joiner->strips().count(); ++strip) {
    std::vector<std::byte> packed(joiner->strips().bytes(strip));
    ASSERT_TRUE(on_device_->CopyStrip(strip, packed));
    ASSERT_TRUE(joiner->PlaceStrip(strip, packed));
    strips.push_back(strip);
  }
  const auto spare = *backend_->Allocate(on_device_->sums().size());
  while (on_device_->state().step() < 10) {
    StepBoth(Compute);
    const auto sums = on_device_->HandOutSums(spare.first(on_device_->sums().size()), strips);
    ASSERT_TRUE(sums);
    ASSERT_TRUE(sums->await());
    std::ranges::copy(sums->sums, joiner->sums().begin());
    ASSERT_TRUE(joiner->ApplyTo(strips, on_device_->record()));
  }
  joiner->state().header() = on_device_->state().header();
  ASSERT_TRUE(joiner->FetchState());
  EXPECT_TRUE(std::ranges::equal(joiner->state().image(), on_device_->state().image()));
}

// The copies of a donor wait, its next step does not: only its sums are begun after them.
TEST_P(DeviceMathTest, HandsOutSumsBesideTheNextStep) {
  if (std::getenv("MUSTER_LIBCUDA") == nullptr) GTEST_SKIP() << "holds back copies";
  const auto hold = ToDriver<decltype(standin_hold)>("standin_hold");
  StepBoth(Compute);
  std::vector<size_t> strips(on_device_->strips().count());
  std::iota(strips.begin(), strips.end(), 0);
  const size_t bytes = on_device_->sums().size();
  const auto spare = backend_->Allocate(bytes)->first(bytes);
  const auto pin = on_device_->Pin(spare);
  ASSERT_TRUE(pin);
  const std::vector<std::byte> expected(on_host_->sums().begin(), on_host_->sums().end());

  hold(kStandinHoldCopiesOut);
  const auto sums = on_device_->HandOutSums(spare, strips);
  ASSERT_TRUE(sums);
  const auto computed = *device_->MakeEvent();
  const auto await_model = [&](const MicroBatch& batch, ConstTensors, Tensors) -> Result<double> {
    // The third one computes where the first one's gradient is, and that waits to be added up.
    const bool waits = batch.index == 2;
    const auto limit = waits ? std::chrono::milliseconds(20) : std::chrono::seconds(30);
    const Status done =
        device_->AwaitAll(batch.gpu->stream, computed, "a model", MonotonicNow() + limit);
    EXPECT_EQ(done.has_value(), !waits) << batch.index;
    if (waits) hold(kStandinHoldNothing);
    return 0;
  };
  EXPECT_TRUE(on_device_->Compute({0, kMicroBatches}, await_model));

  ASSERT_TRUE(sums->await());
  EXPECT_TRUE(std::ranges::equal(sums->sums, expected));
}

TEST_P(DeviceMathTest, GoesOnFromAnImage) {
  for (int i = 0; i < 3; ++i) ASSERT_NO_FATAL_FAILURE(StepBoth(Compute));
  const auto other = Make({device_.get(), "none"});
  std::ranges::copy(on_host_->state().image(), other->state().image().begin());
  ASSERT_TRUE(other->PushState());
  for (int i = 0; i < 3; ++i) {
    StepBoth(Compute);
    Step(*other, ThroughHost(*device_, Compute));
  }
  ASSERT_TRUE(other->FetchState());
  EXPECT_TRUE(std::ranges::equal(other->state().image(), on_host_->state().image()));
}

// Two members, whose gradients are summed bucket by bucket, as soon as each is there.
TEST_P(DeviceMathTest, SumsBucketsOverTheMembersByNccl) {
  if (const auto library = nccl::Library::Load(); !library) {
    GTEST_SKIP() << library.error().ToString();
  }
  constexpr int kMembers = 2;
  constexpr uint64_t kShort = 20;
  struct Member {
    std::unique_ptr<cuda::Device> device;
    std::unique_ptr<Backend> backend;
  };
  std::vector<Member> members(kMembers);
  const auto fabric = CreateInprocFabric();
  ConnectRequest request{.generation = 1};
  for (Member& member : members) {
    const std::string name = fmt::format("m-{}", request.peers.size());
    member.device = *cuda::Device::Open(0);
    member.backend = *CreateNcclBackend(CreateInprocBackend(fabric, name), *member.device);
    request.peers.push_back({name, member.backend->address()});
  }
  std::vector<std::vector<std::byte>> images(kMembers);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < kMembers; ++rank) {
    threads.emplace_back([&, rank, request]() mutable {
      Member& member = members[static_cast<size_t>(rank)];
      request.rank = rank;
      const auto communicator = *member.backend->Connect(request, {});
      const StepDevice on{member.device.get(), "none", 4096};
      const auto engine = *StepEngine::Create(spec_, GetParam().reduce, *member.backend, on);
      const ComputeMicroBatch compute = ThroughHost(*member.device, Compute);
      while (engine->state().step() < kShort) {
        const MicroBatchRange share = ShareOf(rank, kMembers, kMicroBatches);
        ASSERT_TRUE(engine->Compute(share, compute, communicator.get()));
        ASSERT_TRUE(engine->ReduceAndVote(*communicator, 0, false));
        ASSERT_TRUE(engine->ApplyOutcome());
      }
      ASSERT_TRUE(engine->FetchState());
      const auto image = engine->state().image();
      images[static_cast<size_t>(rank)].assign(image.begin(), image.end());
    });
  }
  threads.clear();
  EXPECT_EQ(images[0], images[1]);
  if (GetParam().reduce == Reduce::kFloat) return;  // whose bits depend on the order of additions
  while (on_host_->state().step() < kShort) Step(*on_host_, Compute);
  EXPECT_TRUE(std::ranges::equal(images[0], on_host_->state().image()));
}

INSTANTIATE_TEST_SUITE_P(Ways, DeviceMathTest,
                         testing::Values(Way{"Sgd32", Reduce::kExact, 32, false, 0},
                                         Way{"Sgd64Clipped", Reduce::kExact, 64, false, 0.5},
                                         Way{"AdamW32Clipped", Reduce::kExact, 32, true, 0.5},
                                         Way{"AdamW64", Reduce::kExact, 64, true, 0},
                                         Way{"Float", Reduce::kFloat, 0, true, 0.5}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace muster
