#include "runtime/train/cuda/device_math.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>

#include "runtime/base/check.h"
#include "runtime/train/cuda/step_image.h"
#include "runtime/train/cuda/step_kernels.h"

namespace muster {

namespace {

using cuda::DevicePointer;

// Work that takes longer has hung; peers and the coordinator notice it much earlier.
constexpr auto kWorkTimeout = std::chrono::minutes(10);

template <typename T>
DevicePointer AddressOf(T* memory) {
  return reinterpret_cast<DevicePointer>(memory);
}

// Of the lanes that are summed: int32, int64 or float.
std::string LaneName(const StepFrame& frame) {
  if (frame.reduce == Reduce::kFloat) return "float";
  return frame.exact.lane_bits == 32 ? "int32" : "int64";
}

DeviceCollectives::Lane LaneOf(const StepFrame& frame) {
  using Lane = DeviceCollectives::Lane;
  if (frame.reduce == Reduce::kFloat) return Lane::kFloat32;
  return frame.exact.lane_bits == 32 ? Lane::kInt32 : Lane::kInt64;
}

size_t SlotCount(const StepFrame& frame) { return frame.spec.optimizer->Slots().size(); }

}  // namespace

// --- Preparing ----------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<StepMath>> DeviceMath::Create(const StepFrame& frame, Backend& backend,
                                                     const StepDevice& on) {
  std::unique_ptr<DeviceMath> math(new DeviceMath(frame, on));
  MUSTER_TRY(on.device->Use());
  MUSTER_TRY(math->AllocateSums(backend));
  MUSTER_TRY(math->FindKernels());
  MUSTER_TRY(math->Allocate());
  return std::unique_ptr<StepMath>(std::move(math));
}

DeviceMath::DeviceMath(const StepFrame& frame, const StepDevice& on)
    : StepMath(frame), device_(*on.device), numerics_(on.numerics), offsets_([&frame] {
        ShownOffsets offsets;
        offsets.losses = sizeof(uint64_t);  // after the flags
        offsets.squares =
            offsets.losses + sizeof(double) * static_cast<size_t>(frame.spec.options.micro_batches);
        offsets.observed = offsets.squares + sizeof(double) * frame.layout.blocks();
        offsets.end = offsets.observed + sizeof(int16_t) * frame.layout.blocks();
        return offsets;
      }()) {}

std::string DeviceMath::Describe() const {
  return fmt::format("cuda {} {}", device_.facts().name, numerics_);
}

Status DeviceMath::FindKernels() {
  const Optimizer& optimizer = *frame_.spec.optimizer;
  const auto rule = optimizer.Rule({0, 0});
  if (!rule) {
    return WithHint(Err(Code::kFailedPrecondition, "this optimizer has no kernel for GPUs: {}",
                        optimizer.Describe()),
                    "use Sgd() or AdamW(), or --device cpu");
  }
  const std::string lane = LaneName(frame_);
  const std::string update = std::holds_alternative<SgdRule>(*rule) ? "sgd_" : "adamw_";
  const bool floats = frame_.reduce == Reduce::kFloat;
  const auto find = [this](const std::string& name) {
    return device_.FindKernel(kStepKernels, name);
  };
  MUSTER_ASSIGN(kernels_.accumulate, find(floats ? "add_floats" : "accumulate_" + lane));
  MUSTER_ASSIGN(kernels_.check, find("check_floats"));
  MUSTER_ASSIGN(kernels_.squares, find("squares_" + lane));
  MUSTER_ASSIGN(kernels_.update, find(update + lane));
  MUSTER_ASSIGN(kernels_.raise, find("raise_exponents"));
  MUSTER_ASSIGN(stream_, device_.MakeStream());
  MUSTER_ASSIGN(event_, device_.MakeEvent());
  return {};
}

template <typename T>
Result<T*> DeviceMath::MakeArray(size_t count) {
  MUSTER_ASSIGN(const DevicePointer memory, device_.Allocate(count * sizeof(T)));
  return cuda::PointerOf<T>(memory);
}

template <typename T>
Result<T*> DeviceMath::CopyOf(std::span<const T> values) {
  MUSTER_ASSIGN(T * copy, MakeArray<T>(values.size()));
  MUSTER_TRY(device_.CopyIn(AddressOf(copy), std::as_bytes(values), stream_));
  MUSTER_TRY(Settle());
  return copy;
}

Status DeviceMath::Allocate() {
  const BlockLayout& layout = frame_.layout;
  State& state = frame_.state;
  const size_t count = frame_.spec.parameters.size();
  const auto* host_parameters = state.tensor<float>(0).data();

  std::vector<uint64_t> begins;
  std::vector<uint64_t> places;
  size_t parameter = 0;
  size_t first = 0;  // element of it
  for (size_t block = 0; block < layout.blocks(); ++block) {
    const size_t begin = layout.begin(block);
    while (begin >= first + state.tensor<float>(parameter).size()) {
      first += state.tensor<float>(parameter++).size();
    }
    begins.push_back(begin);
    places.push_back(
        static_cast<uint64_t>(state.tensor<float>(parameter).data() - host_parameters) + begin -
        first);
  }
  begins.push_back(layout.elements());
  MUSTER_ASSIGN(begins_, CopyOf(std::span<const uint64_t>(begins)));
  MUSTER_ASSIGN(places_, CopyOf(std::span<const uint64_t>(places)));

  MUSTER_ASSIGN(image_, MakeArray<std::byte>(state.image().size()));
  const auto in_image = [&](size_t tensor) {
    return image_ + (state.tensor_bytes(tensor).data() - state.image().data());
  };
  parameters_ = reinterpret_cast<float*>(in_image(0));
  exponents_ = reinterpret_cast<int16_t*>(in_image(frame_.exponents_tensor()));
  if (SlotCount(frame_) > 0) {
    slot_stride_ = static_cast<size_t>(state.tensor<float>(count).data() - host_parameters);
  }
  for (size_t i = 0; i < count; ++i) {
    parameter_views_.emplace_back(reinterpret_cast<float*>(in_image(i)),
                                  state.tensor<float>(i).size());
  }
  MUSTER_ASSIGN(gradient_, MakeArray<float>(layout.elements()));
  gradients_ = frame_.CutByParameter(gradient_);
  MUSTER_ASSIGN(device_sums_, MakeArray<std::byte>(frame_.sums_bytes()));
  MUSTER_ASSIGN(agreed_, MakeArray<int16_t>(layout.blocks()));

  MUSTER_ASSIGN(device_shown_, MakeArray<std::byte>(offsets_.end));
  MUSTER_ASSIGN(host_shown_, device_.AllocateHost(offsets_.end));
  MUSTER_ASSIGN(host_agreed_, device_.AllocateHost(layout.blocks() * sizeof(int16_t)));
  std::vector<std::byte> nothing(offsets_.end);
  std::memcpy(nothing.data() + offsets_.observed, shown_.observed.data(),
              shown_.observed.size() * sizeof(int16_t));
  MUSTER_ASSIGN(nothing_shown_, CopyOf(std::span<const std::byte>(nothing)));

  const std::span<std::byte> image[] = {state.image()};
  return Push(image);
}

exact::Scales DeviceMath::Scales() const {
  if (frame_.reduce == Reduce::kFloat) return {.begins = begins_};
  return {begins_, exponents_, frame_.exact.TermBits(), frame_.exact.TermLimit()};
}

exact::MeanArguments DeviceMath::Mean() const {
  return {Scales(), device_sums_, 1.0 / frame_.spec.options.micro_batches};
}

// --- A step -------------------------------------------------------------------------------------------------------------------

Status DeviceMath::Begin() {
  MUSTER_TRY(device_.Use());
  MUSTER_TRY(device_.Zero(AddressOf(device_sums_), frame_.sums_bytes(), stream_));
  return device_.Copy(AddressOf(device_shown_), AddressOf(nothing_shown_), offsets_.end, stream_);
}

Status DeviceMath::Add(MicroBatch batch, const ComputeMicroBatch& compute) {
  auto* losses = reinterpret_cast<double*>(device_shown_ + offsets_.losses);
  auto* flags = reinterpret_cast<uint32_t*>(device_shown_);
  auto* observed = reinterpret_cast<int16_t*>(device_shown_ + offsets_.observed);
  const GpuWork gpu{stream_, losses + batch.index};
  batch.gpu = &gpu;
  MUSTER_TRY(device_.Use());
  MUSTER_TRY(device_.Zero(AddressOf(gradient_), frame_.layout.elements() * sizeof(float), stream_));
  MUSTER_TRY(compute(batch, parameter_views_, gradients_));
  const auto accumulate = [&](const auto& arguments) {
    return device_.Launch(kernels_.accumulate, frame_.layout.blocks(), arguments, stream_);
  };
  if (frame_.reduce == Reduce::kFloat) {
    return accumulate(
        FloatSumArguments{begins_, gradient_, reinterpret_cast<float*>(device_sums_), flags});
  }
  if (frame_.exact.lane_bits == 32) {
    return accumulate(exact::AccumulateArguments<int32_t>{
        Scales(), gradient_, reinterpret_cast<int32_t*>(device_sums_), observed, flags});
  }
  return accumulate(exact::AccumulateArguments<int64_t>{
      Scales(), gradient_, reinterpret_cast<int64_t*>(device_sums_), observed, flags});
}

Status DeviceMath::Sum(Communicator& communicator) {
  const size_t blocks = frame_.layout.blocks();
  DeviceCollectives* ring = communicator.device();
  MUSTER_TRY(device_.Use());
  if (ring != nullptr) {
    MUSTER_TRY(
        ring->Sum(AddressOf(device_sums_), frame_.layout.elements(), LaneOf(frame_), stream_));
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
      Mean(), reinterpret_cast<double*>(device_shown_ + offsets_.squares)};
  MUSTER_TRY(device_.Launch(kernels_.squares, blocks, squares, stream_));
  MUSTER_TRY(device_.CopyOut(host_shown_, AddressOf(device_shown_), stream_));
  if (ring != nullptr) {
    MUSTER_TRY(device_.Record(event_, stream_));
    MUSTER_TRY(ring->Await(event_));
  } else {
    MUSTER_TRY(Settle());
  }
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
  constexpr size_t kThreads = cuda::Block::kThreads;
  return device_.Launch(kernels_.raise, (arguments.count + kThreads - 1) / kThreads, arguments,
                        stream_);
}

Status DeviceMath::Settle() {
  MUSTER_TRY(device_.Record(event_, stream_));
  Status done = device_.Await(event_, "a step", MonotonicNow() + kWorkTimeout);
  if (done || done.error().code != Code::kDeadlineExceeded) return done;
  return Err(Code::kInternal, "{}", done.error().message);  // of this device, not of a peer
}

// --- The state's image, and sums ----------------------------------------------------------------------------------------------

DevicePointer DeviceMath::InImage(std::span<const std::byte> part) const {
  return AddressOf(image_) + static_cast<DevicePointer>(part.data() - frame_.state.image().data());
}

Status DeviceMath::Fetch(Parts parts) {
  if (image_is_current_) return {};
  const std::span<std::byte> image = frame_.state.image();
  const std::span<std::byte> header = image.first(sizeof(StateHeader));
  bool all = false;
  MUSTER_TRY(device_.Use());
  for (std::span<std::byte> part : parts) {
    all = all || part.size() == image.size();
    if (part.data() == header.data()) part = part.subspan(header.size());
    MUSTER_TRY(device_.CopyOut(part, InImage(part), stream_));
  }
  MUSTER_TRY(Settle());
  image_is_current_ = all;
  return {};
}

Status DeviceMath::Push(Parts parts) {
  MUSTER_TRY(device_.Use());
  for (const auto part : parts) {
    MUSTER_TRY(device_.CopyIn(InImage(part), part, stream_));
    image_is_current_ = image_is_current_ || part.size() == frame_.state.image().size();
  }
  return Settle();
}

Status DeviceMath::PushSums(Parts parts) {
  MUSTER_TRY(device_.Use());
  for (const auto part : parts) {
    const auto offset = static_cast<DevicePointer>(part.data() - sums_.data());
    MUSTER_TRY(device_.CopyIn(AddressOf(device_sums_) + offset, part, stream_));
  }
  return {};
}

Result<std::span<std::byte>> DeviceMath::HandOutSums(std::span<std::byte> spare, Parts parts) {
  MUSTER_CHECK(spare.size() == sums_.size(), "{} bytes for {}", spare.size(), sums_.size());
  MUSTER_TRY(device_.Use());
  for (const auto part : parts) {
    const auto offset = static_cast<size_t>(part.data() - sums_.data());
    MUSTER_TRY(device_.CopyOut(spare.subspan(offset, part.size()), AddressOf(device_sums_) + offset,
                               stream_));
  }
  MUSTER_TRY(Settle());
  return spare;
}

}  // namespace muster
