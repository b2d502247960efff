// DeviceMath: a step, and what its outcome does.
#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>

#include "runtime/train/cuda/device_math.h"
#include "runtime/train/cuda/step_kernels.h"

namespace muster {

namespace {

using cuda::AddressOf;

// Work that takes longer has hung; peers and the coordinator notice it much earlier.
constexpr auto kWorkTimeout = std::chrono::minutes(10);

DeviceCollectives::Lane LaneOf(const StepFrame& frame) {
  using Lane = DeviceCollectives::Lane;
  if (frame.reduce == Reduce::kFloat) return Lane::kFloat32;
  return frame.exact.lane_bits == 32 ? Lane::kInt32 : Lane::kInt64;
}

}  // namespace

// --- A step -------------------------------------------------------------------------------------------------------------------

Status DeviceMath::Begin(Communicator* communicator) {
  ring_ = communicator != nullptr ? communicator->device() : nullptr;
  summed_from_ = frame_.layout.blocks();
  MUSTER_TRY(device_.Use());
  if (std::exchange(begun_, true)) {  // and given up
    MUSTER_TRY(AwaitModel());
    MUSTER_TRY(Settle());
  }
  MUSTER_TRY(
      device_.Copy(AddressOf(device_shown_), AddressOf(nothing_shown_), offsets_.end, stream_));
  MUSTER_TRY(device_.Record(updated_, stream_));
  MUSTER_TRY(device_.Wait(model_stream_, updated_));
  MUSTER_TRY(device_.Wait(stream_, handed_out_[hand_outs_ % handed_out_.size()]));
  return device_.Zero(AddressOf(device_sums_), frame_.sums_bytes(), stream_);
}

Status DeviceMath::Add(MicroBatch batch, bool last, const ComputeMicroBatch& compute) {
  current_ = (current_ + 1) % gradients_.size();
  last_ = last;
  added_from_ = frame_.layout.blocks();
  Gradient& gradient = gradients_[current_];
  auto* losses = reinterpret_cast<double*>(device_shown_ + offsets_.losses);
  const GpuWork gpu{model_stream_, losses + batch.index,
                    [this](size_t first) { return Ready(first); }};
  batch.gpu = &gpu;
  MUSTER_TRY(device_.Use());
  MUSTER_TRY(device_.Wait(model_stream_, gradient.added));
  MUSTER_TRY(device_.Zero(AddressOf(gradient.elements), frame_.layout.elements() * sizeof(float),
                          model_stream_));
  MUSTER_TRY(compute(batch, parameter_views_, gradient.by_parameter));
  MUSTER_TRY(Ready(0));
  MUSTER_TRY(AwaitModel());  // its loss, too
  return device_.Record(gradient.added, stream_);
}

// What is queued on our stream from now on waits for what the model has queued.
Status DeviceMath::AwaitModel() {
  MUSTER_TRY(device_.Record(ready_, model_stream_));
  return device_.Wait(stream_, ready_);
}

// The gradients of this parameter and all after it are complete.
Status DeviceMath::Ready(size_t first_parameter) {
  const BlockRange blocks{first_blocks_.at(first_parameter), added_from_};
  if (blocks.begin < blocks.end) {
    MUSTER_TRY(AwaitModel());
    MUSTER_TRY(Accumulate(blocks));
    added_from_ = blocks.begin;
  }
  return last_ && ring_ != nullptr ? SumBuckets(*ring_, added_from_) : Status();
}

Status DeviceMath::Accumulate(BlockRange blocks) {
  float* gradient = gradients_[current_].elements;
  auto* flags = reinterpret_cast<uint32_t*>(device_shown_);
  auto* observed = reinterpret_cast<int16_t*>(device_shown_ + offsets_.observed) + blocks.begin;
  exact::Scales scales = Scales();
  scales.begins += blocks.begin;
  if (scales.exponents != nullptr) scales.exponents += blocks.begin;
  const auto launch = [&](const auto& arguments) {
    return device_.Launch(kernels_.accumulate, blocks.end - blocks.begin, arguments, stream_);
  };
  if (frame_.reduce == Reduce::kFloat) {
    return launch(
        FloatSumArguments{scales.begins, gradient, reinterpret_cast<float*>(device_sums_), flags});
  }
  if (frame_.exact.lane_bits == 32) {
    return launch(exact::AccumulateArguments<int32_t>{
        scales, gradient, reinterpret_cast<int32_t*>(device_sums_), observed, flags});
  }
  return launch(exact::AccumulateArguments<int64_t>{
      scales, gradient, reinterpret_cast<int64_t*>(device_sums_), observed, flags});
}

// Those that lie from this block on. All members sum the same ones in the same order, the last bucket first, whenever each is ready.
Status DeviceMath::SumBuckets(DeviceCollectives& ring, size_t first_block) {
  const BlockLayout& layout = frame_.layout;
  while (summed_from_ > first_block) {
    const size_t begin = (summed_from_ - 1) / blocks_of_bucket_ * blocks_of_bucket_;
    if (begin < first_block) break;
    const size_t from = layout.begin(begin);
    MUSTER_TRY(ring.Sum(AddressOf(device_sums_) + from * frame_.lane_bytes(),
                        layout.begin(summed_from_) - from, LaneOf(frame_), stream_));
    summed_from_ = begin;
  }
  return {};
}

Status DeviceMath::Sum(Communicator& communicator) {
  const size_t blocks = frame_.layout.blocks();
  DeviceCollectives* ring = communicator.device();
  MUSTER_TRY(device_.Use());
  if (ring != nullptr) {
    MUSTER_TRY(SumBuckets(*ring, 0));
  } else if (communicator.size() > 1) {
    MUSTER_TRY(SumThroughHost(communicator));
  }
  if (frame_.reduce == Reduce::kFloat) {
    const FloatSumArguments check{begins_, nullptr, reinterpret_cast<float*>(device_sums_),
                                  reinterpret_cast<uint32_t*>(device_shown_)};
    MUSTER_TRY(device_.Launch(kernels_.check, blocks, check, stream_));
  }
  // They need no vote, and so come along with what it needs.
  const exact::SquaresArguments squares{
      Mean(), reinterpret_cast<double*>(device_shown_ + offsets_.squares), blocks};
  MUSTER_TRY(device_.Launch(kernels_.squares, squares.blocks_of_threads(), squares, stream_));
  MUSTER_TRY(device_.CopyOut(host_shown_, AddressOf(device_shown_), stream_));
  if (ring != nullptr) {
    MUSTER_TRY(device_.Record(done_, stream_));
    MUSTER_TRY(ring->Await(done_));
  } else {
    MUSTER_TRY(Settle());
  }
  begun_ = false;
  ReadShown();
  return {};
}

Status DeviceMath::SumThroughHost(Communicator& communicator) {
  MUSTER_TRY(device_.CopyOut(sums_, AddressOf(device_sums_), stream_));
  MUSTER_TRY(Settle());
  MUSTER_TRY(SumOnHost(communicator));
  return device_.CopyIn(AddressOf(device_sums_), sums_, stream_);
}

void DeviceMath::ReadShown() {
  uint32_t flags = 0;
  std::memcpy(&flags, host_shown_.data(), sizeof flags);
  shown_.flags = {(flags & exact::kMissFlag) != 0, (flags & exact::kNonFiniteFlag) != 0};
  std::memcpy(shown_.losses.data(), host_shown_.data() + offsets_.losses,
              shown_.losses.size() * sizeof(double));
  std::memcpy(shown_.observed.data(), host_shown_.data() + offsets_.observed,
              shown_.observed.size() * sizeof(int16_t));
}

// --- What its outcome does ------------------------------------------------------------------------------------------------------

Status DeviceMath::Agree(const Vote& outcome) {
  outcome.GetExponents(LanesOf<int16_t>(host_agreed_));
  MUSTER_TRY(device_.Use());
  return device_.CopyIn(AddressOf(agreed_), host_agreed_, stream_);
}

Result<double> DeviceMath::SumOfSquares() {
  double sum = 0;
  for (const double square : LanesOf<double>(
           host_shown_.subspan(offsets_.squares, offsets_.observed - offsets_.squares))) {
    sum += square;
  }
  return sum;
}

Status DeviceMath::Update(BlockRange blocks, const UpdateContext& context, double scale) {
  image_is_current_ = false;
  return std::visit(
      [&]<typename Rule>(const Rule& rule) {
        UpdateArguments<Rule> arguments{.mean = Mean(), .rule = rule, .scale = scale};
        if (frame_.reduce == Reduce::kExact) {
          arguments.observed = agreed_;
          arguments.decays = BlockExponents::DecaysAfter(context.step);
        }
        arguments.first = blocks.begin;
        arguments.places = places_;
        arguments.parameters = parameters_;
        arguments.slot_stride = slot_stride_;
        return device_.Launch(kernels_.update, blocks.end - blocks.begin, arguments, stream_);
      },
      *frame_.spec.optimizer->Rule(context));
}

Status DeviceMath::Raise(BlockRange blocks) {
  image_is_current_ = false;
  const RaiseArguments arguments{exponents_ + blocks.begin, agreed_ + blocks.begin,
                                 blocks.end - blocks.begin};
  return device_.LaunchEach(kernels_.raise, arguments.count, arguments, stream_);
}

Status DeviceMath::Settle() {
  MUSTER_TRY(device_.Record(done_, stream_));
  return AwaitWork(done_);
}

Status DeviceMath::AwaitWork(cuda::Event event) const {
  Status done = device_.Await(event, "a step", MonotonicNow() + kWorkTimeout);
  if (done || done.error().code != Code::kDeadlineExceeded) return done;
  return Err(Code::kInternal, "{}", done.error().message);  // of this device, not of a peer
}

}  // namespace muster
