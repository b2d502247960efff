// DeviceMath: the arithmetic of a step on a GPU. Gradients, sums and the state stay in its memory; what a step brings to the host is
// what its vote needs.
//
// Two streams: the model's, and ours. Ours adds up the gradient of one micro-batch while the next one is computed, in the other of two
// buffers; and buckets of the last one, as soon as the model says that they are complete, are summed over all members while the rest is
// computed. A step waits for the device once, when its vote needs what it has shown. Sums of all members are NCCL's where the communicator
// has it, else they take the way through the host. Those that a donor hands out leave on a third stream, beside the next step.
//
// Threading and ownership: as StepMath; the memory lives as long as the device.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/exact/kernels.h"
#include "runtime/cuda/device.h"
#include "runtime/train/gpu.h"
#include "runtime/train/step_math.h"

namespace muster {

// The GPU that steps are taken on; null: the CPU.
struct StepDevice {
  cuda::Device* device = nullptr;
  std::string numerics = {};  // of the program (GpuModel::Numerics)
  // What members sum at once, in lanes. Equal on all of them; the bits do not depend on it.
  size_t bucket_bytes = size_t{25} << 20;
};

class DeviceMath : public StepMath {
 public:
  // The optimizer must have a Rule(). Errors: kResourceExhausted (memory of the device or the host), kFailedPrecondition (this build has no
  // kernels for it), kInternal.
  static Result<std::unique_ptr<StepMath>> Create(const StepFrame& frame, Backend& backend,
                                                  const StepDevice& on);

  std::string Describe() const override;
  Status Begin(Communicator* communicator) override;
  Status Add(MicroBatch batch, bool last, const ComputeMicroBatch& compute) override;
  Status Sum(Communicator& communicator) override;

  Status Agree(const Vote& outcome) override;
  Status TakeMean(BlockRange) override { return {}; }  // Update() does
  Result<double> SumOfSquares() override;
  Status Update(BlockRange blocks, const UpdateContext& context, double scale) override;
  Status Raise(BlockRange blocks) override;
  Status Settle() override;

  Status Fetch(Parts parts) override;
  Status Push(Parts parts) override;
  Status PushSums(Parts parts) override;
  Result<HandedOut> HandOutSums(std::span<std::byte> spare, Parts parts) override;
  std::shared_ptr<void> Pin(std::span<std::byte> memory) override;

 private:
  DeviceMath(const StepFrame& frame, const StepDevice& on);
  Status Allocate();
  template <typename T>
  Result<T*> MakeArray(size_t count);
  template <typename T>
  Result<T*> CopyOf(std::span<const T> values);
  Status FindKernels();
  Status Ready(size_t first_parameter);
  Status AwaitModel();
  Status AwaitWork(cuda::Event event) const;
  Status Accumulate(BlockRange blocks);
  Status SumBuckets(DeviceCollectives& ring, size_t first_block);
  Status SumThroughHost(Communicator& communicator);
  void ReadShown();
  cuda::DevicePointer InImage(std::span<const std::byte> part) const;
  exact::Scales Scales() const;
  exact::MeanArguments Mean() const;

  cuda::Device& device_;
  const std::string numerics_;
  const size_t blocks_of_bucket_;
  const std::vector<size_t> first_blocks_;  // of each parameter
  cuda::Stream model_stream_ = nullptr;
  cuda::Stream stream_ = nullptr;               // ours
  cuda::Event ready_ = nullptr;                 // on the model's: what ours may read
  cuda::Event updated_ = nullptr;               // on ours: the model may go on
  cuda::Event done_ = nullptr;                  // on ours: what the host waits for
  cuda::Stream copy_stream_ = nullptr;          // of sums that are handed out
  std::array<cuda::Event, 4> handed_out_ = {};  // on it, one call after the other
  size_t hand_outs_ = 0;
  struct {
    cuda::Function accumulate = nullptr;
    cuda::Function check = nullptr;  // of sums of floats
    cuda::Function squares = nullptr;
    cuda::Function update = nullptr;
    cuda::Function raise = nullptr;
  } kernels_;

  // In the memory of the device.
  uint64_t* begins_ = nullptr;  // of blocks, in gradients and sums
  uint64_t* places_ = nullptr;  // of blocks, from parameters_ on
  std::byte* image_ = nullptr;
  float* parameters_ = nullptr;   // in image_
  size_t slot_stride_ = 0;        // in floats
  int16_t* exponents_ = nullptr;  // in image_
  std::byte* device_sums_ = nullptr;
  int16_t* agreed_ = nullptr;
  std::vector<std::span<const float>> parameter_views_;
  struct Gradient {
    float* elements = nullptr;
    std::vector<std::span<float>> by_parameter;
    cuda::Event added = nullptr;  // on ours: it may be overwritten
  };
  std::array<Gradient, 2> gradients_;  // of one micro-batch and of the next

  // Of the step being computed.
  bool begun_ = false;                 // and not summed yet
  DeviceCollectives* ring_ = nullptr;  // null: sums of all members wait for Sum()
  size_t current_ = 0;                 // of gradients_
  bool last_ = false;                  // micro-batch of this member
  size_t added_from_ = 0;              // blocks of it from here on are in the sums
  size_t summed_from_ = 0;             // blocks from here on are sums of all members, or will be

  // What a step has shown, as it lies on the device, and its copy in host memory: flags, losses, squares, exponents.
  struct ShownOffsets {
    size_t losses = 0;
    size_t squares = 0;
    size_t observed = 0;
    size_t end = 0;
  };
  const ShownOffsets offsets_;
  std::byte* device_shown_ = nullptr;
  std::byte* nothing_shown_ = nullptr;  // what it is before a step
  std::span<std::byte> host_shown_;
  std::span<std::byte> host_agreed_;
  std::vector<std::shared_ptr<void>> pins_;  // of the image and the sums
  bool image_is_current_ = false;            // the host's is what the device's is
};

}  // namespace muster
