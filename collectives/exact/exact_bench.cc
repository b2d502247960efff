// What exact accumulation costs beside a plain float add. Bytes per second count gradient bytes (4
// an element). The argument is the number of elements: one that fits the caches, and one that does
// not.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "collectives/exact/exact.h"

namespace muster {
namespace {

std::vector<float> Gradient(size_t count) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal(0, 0.01f);
  std::vector<float> gradient(count);
  for (float& value : gradient) value = normal(generator);
  return gradient;
}

void CountGradientBytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * state.range(0) * 4);
}

__attribute__((target_clones("avx2", "default"), noinline)) void AddFloats(const float* values,
                                                                           size_t count,
                                                                           float* sum) {
  for (size_t i = 0; i < count; ++i) sum[i] += values[i];
}

void FloatAdd(benchmark::State& state) {
  const std::vector<float> gradient = Gradient(state.range(0));
  std::vector<float> sum(gradient.size());
  for (auto _ : state) {
    AddFloats(gradient.data(), gradient.size(), sum.data());
    benchmark::DoNotOptimize(sum.data());
    benchmark::ClobberMemory();
  }
  CountGradientBytes(state);
}

template <typename Lane>
void ExactAccumulate(benchmark::State& state) {
  const std::vector<float> gradient = Gradient(state.range(0));
  const BlockLayout layout({gradient.size()});
  const ExactOptions options{.lane_bits = 8 * sizeof(Lane)};
  BlockExponents exponents(layout.blocks());
  std::vector<Lane> sum(gradient.size());
  std::vector<int16_t> observed(layout.blocks(), kUnknownExponent);
  Accumulate<Lane>(layout, options, exponents, gradient, sum, observed);
  exponents.Raise(observed);
  for (auto _ : state) {
    const ExactFlags flags = Accumulate<Lane>(layout, options, exponents, gradient, sum, observed);
    if (flags.miss) state.SkipWithError("a miss");
  }
  CountGradientBytes(state);
}

template <typename Lane>
void ExactToFloat(benchmark::State& state) {
  const std::vector<Lane> sum(state.range(0), 12345);
  const BlockLayout layout({sum.size()});
  const BlockExponents exponents(layout.blocks());
  const ExactOptions options{.lane_bits = 8 * sizeof(Lane)};
  std::vector<float> out(sum.size());
  for (auto _ : state) {
    ToFloat<Lane>(layout, options, exponents, sum, 1.0 / 16, out);
    benchmark::DoNotOptimize(out.data());
  }
  CountGradientBytes(state);
}

void NormOfBlocks(benchmark::State& state) {
  const std::vector<float> gradient = Gradient(state.range(0));
  const BlockLayout layout({gradient.size()});
  for (auto _ : state) benchmark::DoNotOptimize(SumOfSquares(layout, gradient));
  CountGradientBytes(state);
}

constexpr int64_t kInCache = 64 << 10;
constexpr int64_t kInMemory = 32 << 20;

BENCHMARK(FloatAdd)->Arg(kInCache)->Arg(kInMemory);
BENCHMARK(ExactAccumulate<int32_t>)->Arg(kInCache)->Arg(kInMemory);
BENCHMARK(ExactAccumulate<int64_t>)->Arg(kInCache)->Arg(kInMemory);
BENCHMARK(ExactToFloat<int32_t>)->Arg(kInCache)->Arg(kInMemory);
BENCHMARK(ExactToFloat<int64_t>)->Arg(kInCache)->Arg(kInMemory);
BENCHMARK(NormOfBlocks)->Arg(kInCache)->Arg(kInMemory);

}  // namespace
}  // namespace muster
