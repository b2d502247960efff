#include "runtime/cuda/health.h"

#include <algorithm>
#include <span>

#include "runtime/cuda/health_kernels.h"

namespace muster {

extern const cuda::KernelImage kHealthKernels;

namespace cuda {

namespace {

// More than any GPU has multiprocessors, so that all of them compute.
constexpr size_t kComputeBlocks = 512;
// Each bit of a word is once set and once not.
constexpr uint32_t kSeeds[] = {0x2545f491, ~uint32_t{0x2545f491}};
constexpr int kCopies = 4;

class Check {
 public:
  Check(Device& device, const HealthOptions& options)
      : device_(device), options_(options), blocks_(options.memory_bytes / 2 / kBlockBytes) {}

  Result<Health> Run() {
    if (blocks_ == 0) {
      return Err(Code::kInvalidArgument, "a health check needs {} bytes", 2 * kBlockBytes);
    }
    MUSTER_TRY(Prepare());
    for (const uint32_t seed : kSeeds) MUSTER_TRY(Remembers(seed));
    MUSTER_TRY(Computes());
    return Copies();
  }

 private:
  static constexpr size_t kBlockBytes = kWordsOfBlock * sizeof(uint32_t);

  Status Prepare() {
    MUSTER_ASSIGN(stream_, device_.MakeStream());
    MUSTER_ASSIGN(done_, device_.MakeEvent());
    MUSTER_ASSIGN(write_, device_.FindKernel(kHealthKernels, "health_write"));
    MUSTER_ASSIGN(check_, device_.FindKernel(kHealthKernels, "health_check"));
    MUSTER_ASSIGN(compute_, device_.FindKernel(kHealthKernels, "health_compute"));
    MUSTER_ASSIGN(words_, device_.Allocate(blocks_ * kBlockBytes));
    MUSTER_ASSIGN(copy_, device_.Allocate(blocks_ * kBlockBytes));
    MUSTER_ASSIGN(results_, device_.Allocate(kComputeBlocks * Block::kThreads * sizeof(uint32_t)));
    MUSTER_ASSIGN(wrong_, device_.Allocate(sizeof(uint32_t)));
    // Not on the stack: a copy that comes too late still goes somewhere.
    MUSTER_ASSIGN(answer_,
                  device_.AllocateHost(kComputeBlocks * Block::kThreads * sizeof(uint32_t)));
    return {};
  }

  Status Await(std::string_view what) {
    return device_.AwaitAll(stream_, done_, what, MonotonicNow() + options_.timeout);
  }

  // Both halves of the memory, the second by a copy.
  Status Remembers(uint32_t seed) {
    PatternArguments arguments{Words(words_), seed, Words(wrong_)};
    MUSTER_TRY(device_.Zero(wrong_, sizeof(uint32_t), stream_));
    MUSTER_TRY(device_.Launch(write_, blocks_, arguments, stream_));
    MUSTER_TRY(device_.Copy(copy_, words_, blocks_ * kBlockBytes, stream_));
    MUSTER_TRY(device_.Launch(check_, blocks_, arguments, stream_));
    arguments.words = Words(copy_);
    MUSTER_TRY(device_.Launch(check_, blocks_, arguments, stream_));
    MUSTER_TRY(device_.CopyOut(answer_.first(sizeof(uint32_t)), wrong_, stream_));
    MUSTER_TRY(Await("the check of its memory"));
    const uint32_t wrong = Answer().front();
    if (wrong == 0) return {};
    return Bad(fmt::format("{} of {} blocks of {} bytes in its memory are not what was written",
                           wrong, 2 * blocks_, kBlockBytes));
  }

  Status Computes() {
    MUSTER_TRY(device_.Launch(compute_, kComputeBlocks,
                              ComputeArguments{Words(results_), options_.rounds}, stream_));
    MUSTER_TRY(device_.CopyOut(answer_, results_, stream_));
    MUSTER_TRY(Await("the check of its arithmetic"));
    const std::span<const uint32_t> results = Answer();
    size_t wrong = 0;
    for (int thread = 0; thread < Block::kThreads; ++thread) {
      const uint32_t expected = Computed(thread, options_.rounds);
      for (size_t block = 0; block < kComputeBlocks; ++block) {
        const uint32_t found = results[block * Block::kThreads + static_cast<size_t>(thread)];
        if (found != expected) ++wrong;
      }
    }
    if (wrong == 0) return {};
    return Bad(fmt::format("{} of {} computations were wrong", wrong, results.size()));
  }

  Result<Health> Copies() {
    MUSTER_TRY(device_.Copy(copy_, words_, blocks_ * kBlockBytes, stream_));
    MUSTER_TRY(Await("a copy in its memory"));
    const TimePoint start = MonotonicNow();
    for (int i = 0; i < kCopies; ++i) {
      MUSTER_TRY(device_.Copy(copy_, words_, blocks_ * kBlockBytes, stream_));
    }
    MUSTER_TRY(Await("copies in its memory"));
    const double moved = 2.0 * kCopies * static_cast<double>(blocks_ * kBlockBytes);
    const Health health{moved / std::max(Seconds(MonotonicNow() - start), 1e-9)};
    if (health.bytes_per_second >= options_.least_bytes_per_second) return health;
    return Err(Code::kFailedPrecondition, "{} copies {:.0f} GB/s in its memory, less than {:.0f}",
               device_.facts().ToString(), health.bytes_per_second / 1e9,
               options_.least_bytes_per_second / 1e9);
  }

  tl::unexpected<Error> Bad(const std::string& what) const {
    return WithHint(
        Err(Code::kDataLoss, "{} is not in order: {}", device_.facts().ToString(), what),
        "take it out of service; nvidia-smi -q shows its ECC errors");
  }

  std::span<const uint32_t> Answer() const {
    return {reinterpret_cast<const uint32_t*>(answer_.data()), answer_.size() / sizeof(uint32_t)};
  }
  static uint32_t* Words(DevicePointer memory) { return PointerOf<uint32_t>(memory); }

  Device& device_;
  const HealthOptions& options_;
  const size_t blocks_;  // of each half of the memory
  Stream stream_ = nullptr;
  Event done_ = nullptr;
  Function write_ = nullptr, check_ = nullptr, compute_ = nullptr;
  DevicePointer words_ = 0, copy_ = 0, results_ = 0, wrong_ = 0;
  std::span<std::byte> answer_;
};

}  // namespace

Result<Health> CheckHealth(Device& device, const HealthOptions& options) {
  return Check(device, options).Run();
}

}  // namespace cuda

}  // namespace muster
