// How fast the kernels of a step are beside a copy in the device's memory, and what the runtime adds to a step on a GPU. Bytes per second
// count what a kernel must read and write. The argument is the number of parameters.
//
//   make gpu-bench     or     build/tests/device_bench --benchmark_format=json
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "collectives/inproc/inproc.h"
#include "runtime/train/cuda/step_image.h"
#include "runtime/train/cuda/step_kernels.h"
#include "runtime/train/step_engine.h"

namespace muster {
namespace {

constexpr int kLaunches = 10;  // of which the host waits for the last one
constexpr auto kTimeout = std::chrono::minutes(5);

// One device with arrays for a model of so many parameters. A failure ends the program: there is nothing to measure.
class Bench {
 public:
  explicit Bench(size_t parameters) : layout_({parameters}) {
    std::vector<uint64_t> begins;
    for (size_t block = 0; block <= layout_.blocks(); ++block)
      begins.push_back(layout_.begin(block));
    begins_ = CopyOf(begins);
  }

  template <typename T>
  T* CopyOf(const std::vector<T>& values) {
    T* copy = Zeros<T>(values.size());
    Must(device_->CopyIn(cuda::AddressOf(copy), std::as_bytes(std::span(values)), stream_));
    Await();
    return copy;
  }

  template <typename T>
  T* Zeros(size_t count) {
    const cuda::DevicePointer memory = Must(device_->Allocate(count * sizeof(T)));
    Must(device_->Zero(memory, count * sizeof(T), stream_));
    return cuda::PointerOf<T>(memory);
  }

  exact::Scales Scales() {
    const ExactOptions options{.micro_batches = 16, .lane_bits = 32};
    return {begins_, Zeros<int16_t>(layout_.blocks()), options.TermBits(), options.TermLimit()};
  }

  template <typename Arguments>
  void Run(benchmark::State& state, const char* kernel, const Arguments& arguments,
           size_t bytes_of_parameter, size_t blocks_of_threads) {
    const cuda::Function function = Must(device_->FindKernel(kStepKernels, kernel));
    Repeat(state, bytes_of_parameter * layout_.elements(),
           [&] { Must(device_->Launch(function, blocks_of_threads, arguments, stream_)); });
  }

  template <typename Queue>
  void Repeat(benchmark::State& state, size_t bytes, const Queue& queue) {
    queue();
    Await();
    for (auto _ : state) {
      for (int i = 0; i < kLaunches; ++i) queue();
      Await();
    }
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * kLaunches *
                            static_cast<int64_t>(bytes));
    state.SetLabel(device_->facts().name);
  }

  void Copy(benchmark::State& state) {
    const size_t bytes = layout_.elements() * sizeof(float);
    float* from = Zeros<float>(layout_.elements());
    float* to = Zeros<float>(layout_.elements());
    Repeat(state, 2 * bytes, [&] {
      Must(device_->Copy(cuda::AddressOf(to), cuda::AddressOf(from), bytes, stream_));
    });
  }

  static void Must(const Status& status) {
    if (status) return;
    fmt::print(stderr, "device_bench: {}\n", status.error().ToString());
    std::exit(1);
  }
  template <typename T>
  static T Must(Result<T> result) {
    if (!result) Must(Status(tl::unexpected(result.error())));
    return std::move(*result);
  }

  size_t blocks() const { return layout_.blocks(); }
  size_t elements() const { return layout_.elements(); }

 private:
  void Await() {
    Must(device_->AwaitAll(stream_, done_, "a benchmark", MonotonicNow() + kTimeout));
  }

  const BlockLayout layout_;
  const std::unique_ptr<cuda::Device> device_ = Must(cuda::Device::Open(0));
  const cuda::Stream stream_ = Must(device_->MakeStream());
  const cuda::Event done_ = Must(device_->MakeEvent());
  uint64_t* begins_ = nullptr;
};

void CopyInMemory(benchmark::State& state) {
  Bench(static_cast<size_t>(state.range(0))).Copy(state);
}

void Accumulate(benchmark::State& state) {
  Bench bench(static_cast<size_t>(state.range(0)));
  // Of zeros nothing would be added.
  const float* gradient = bench.CopyOf(std::vector<float>(bench.elements(), 0.25F));
  const exact::AccumulateArguments<int32_t> arguments{
      bench.Scales(), gradient, bench.Zeros<int32_t>(bench.elements()),
      bench.Zeros<int16_t>(bench.blocks()), bench.Zeros<uint32_t>(1)};
  bench.Run(state, "accumulate_int32", arguments, 3 * sizeof(float), bench.blocks());
}

void Squares(benchmark::State& state) {
  Bench bench(static_cast<size_t>(state.range(0)));
  const exact::SquaresArguments arguments{
      {bench.Scales(), bench.Zeros<int32_t>(bench.elements()), 1.0 / 16},
      bench.Zeros<double>(bench.blocks()),
      bench.blocks()};
  bench.Run(state, "squares_int32", arguments, sizeof(float), arguments.blocks_of_threads());
}

template <typename Rule>
void Update(benchmark::State& state, const char* kernel, const Rule& rule) {
  Bench bench(static_cast<size_t>(state.range(0)));
  UpdateArguments<Rule> arguments{
      .mean = {bench.Scales(), bench.Zeros<int32_t>(bench.elements()), 1.0 / 16}, .rule = rule};
  arguments.observed = bench.Zeros<int16_t>(bench.blocks());
  arguments.places = arguments.mean.scales.begins;
  arguments.slot_stride = bench.elements();
  arguments.parameters = bench.Zeros<float>(bench.elements() * (1 + Rule::kSlots));
  bench.Run(state, kernel, arguments, (1 + 2 * (1 + Rule::kSlots)) * sizeof(float), bench.blocks());
}

void UpdateSgd(benchmark::State& state) { Update(state, "sgd_int32", SgdRule{0.1F, 0.9F}); }
void UpdateAdamW(benchmark::State& state) {
  Update(state, "adamw_int32", AdamWRule{0.9F, 0.999F, 0.1F, 0.001F, 1, 1, 1e-8F, 1e-3F, 0.999F});
}

// A step with one micro-batch whose gradient costs nothing, alone: what is left is the runtime's.
void StepOfNothing(benchmark::State& state) {
  const auto device = Bench::Must(cuda::Device::Open(0));
  const auto backend = CreateInprocBackend(CreateInprocFabric(), "alone");
  const auto optimizer = AdamW();
  SessionSpec spec;
  spec.parameters = {{"values", {state.range(0)}}};
  spec.optimizer = optimizer.get();
  spec.options.micro_batches = 1;
  spec.options.batch_size = 1;
  spec.options.lane_bits = 32;
  spec.dataset_size = 1;
  const auto engine =
      Bench::Must(StepEngine::Create(spec, Reduce::kExact, *backend, {device.get(), "nothing"}));
  const auto communicator = Bench::Must(
      backend->Connect({.generation = 1, .peers = {{"alone", backend->address()}}}, {}));
  const ComputeMicroBatch nothing = [](const MicroBatch&, ConstTensors, Tensors) { return 0.0; };
  for (auto _ : state) {
    Bench::Must(engine->Compute({0, 1}, nothing));
    Bench::Must(engine->ReduceAndVote(*communicator, 0, false));
    Bench::Must(engine->ApplyOutcome());
  }
  Bench::Must(engine->FetchState());  // the last update is part of it
  state.SetLabel(device->facts().name);
}

#define MUSTER_SIZES ->Arg(1 << 20)->Arg(100 << 20)->Unit(benchmark::kMillisecond)->UseRealTime()

BENCHMARK(CopyInMemory) MUSTER_SIZES;
BENCHMARK(Accumulate) MUSTER_SIZES;
BENCHMARK(Squares) MUSTER_SIZES;
BENCHMARK(UpdateSgd) MUSTER_SIZES;
BENCHMARK(UpdateAdamW) MUSTER_SIZES;
BENCHMARK(StepOfNothing) MUSTER_SIZES;

}  // namespace
}  // namespace muster
