#include "runtime/train/cuda/device_math.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>

#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/train/cuda/step_image.h"
#include "runtime/train/cuda/step_kernels.h"

namespace muster {

namespace {

using cuda::AddressOf;
using cuda::DevicePointer;

// Of the lanes that are summed: int32, int64 or float.
std::string LaneName(const StepFrame& frame) {
  if (frame.reduce == Reduce::kFloat) return "float";
  return frame.exact.lane_bits == 32 ? "int32" : "int64";
}

std::vector<size_t> FirstBlocks(const StepFrame& frame) {
  std::vector<size_t> first;
  size_t block = 0;
  size_t element = 0;
  for (const Parameter& parameter : frame.spec.parameters) {
    while (frame.layout.begin(block) < element) ++block;
    first.push_back(block);
    element += static_cast<size_t>(parameter.size());
  }
  return first;
}

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
    : StepMath(frame),
      device_(*on.device),
      numerics_(on.numerics),
      blocks_of_bucket_(std::max<size_t>(on.bucket_bytes / (kBlockSize * frame.lane_bytes()), 1)),
      first_blocks_(FirstBlocks(frame)),
      offsets_([&frame] {
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
  MUSTER_CHECK(rule, "no kernel for GPUs: {}", optimizer.Describe());
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
  MUSTER_ASSIGN(model_stream_, device_.MakeStream());
  MUSTER_ASSIGN(stream_, device_.MakeStream());
  MUSTER_ASSIGN(copy_stream_, device_.MakeStream());
  for (cuda::Event* event :
       {&ready_, &updated_, &done_, &gradients_[0].added, &gradients_[1].added}) {
    MUSTER_ASSIGN(*event, device_.MakeEvent());
  }
  for (cuda::Event& event : handed_out_) {
    MUSTER_ASSIGN(event, device_.MakeEvent());
  }
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
  for (size_t block = 0; block < layout.blocks(); ++block) begins.push_back(layout.begin(block));
  begins.push_back(layout.elements());
  std::vector<uint64_t> places;
  for (size_t i = 0; i < count; ++i) {
    const auto place = static_cast<uint64_t>(state.tensor<float>(i).data() - host_parameters);
    const size_t first = first_blocks_[i];
    const size_t end = i + 1 < count ? first_blocks_[i + 1] : layout.blocks();
    for (size_t block = first; block < end; ++block) {
      places.push_back(place + layout.begin(block) - layout.begin(first));
    }
  }
  MUSTER_ASSIGN(begins_, CopyOf(std::span<const uint64_t>(begins)));
  MUSTER_ASSIGN(places_, CopyOf(std::span<const uint64_t>(places)));

  MUSTER_ASSIGN(image_, MakeArray<std::byte>(state.image().size()));
  const auto in_image = [&](size_t tensor) {
    return image_ + (state.tensor_bytes(tensor).data() - state.image().data());
  };
  parameters_ = reinterpret_cast<float*>(in_image(0));
  exponents_ = reinterpret_cast<int16_t*>(in_image(frame_.exponents_tensor()));
  slot_stride_ = static_cast<size_t>(state.tensor<float>(count).data() - host_parameters);
  for (size_t i = 0; i < count; ++i) {
    parameter_views_.emplace_back(reinterpret_cast<float*>(in_image(i)),
                                  state.tensor<float>(i).size());
  }
  for (Gradient& gradient : gradients_) {
    MUSTER_ASSIGN(gradient.elements, MakeArray<float>(layout.elements()));
    gradient.by_parameter = frame_.CutByParameter(gradient.elements);
  }
  MUSTER_ASSIGN(device_sums_, MakeArray<std::byte>(frame_.sums_bytes()));
  MUSTER_ASSIGN(agreed_, MakeArray<int16_t>(layout.blocks()));

  MUSTER_ASSIGN(device_shown_, MakeArray<std::byte>(offsets_.end));
  MUSTER_ASSIGN(host_shown_, device_.AllocateHost(offsets_.end));
  MUSTER_ASSIGN(host_agreed_, device_.AllocateHost(layout.blocks() * sizeof(int16_t)));
  std::vector<std::byte> nothing(offsets_.end);
  std::memcpy(nothing.data() + offsets_.observed, shown_.observed.data(),
              shown_.observed.size() * sizeof(int16_t));
  MUSTER_ASSIGN(nothing_shown_, CopyOf(std::span<const std::byte>(nothing)));

  pins_ = {Pin(state.image()), Pin(sums_)};
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

// The sums are complete, for their step has been applied, and stay until the next one begins: see Begin().
Result<StepMath::HandedOut> DeviceMath::HandOutSums(std::span<std::byte> spare, Parts parts) {
  MUSTER_CHECK(spare.size() == sums_.size(), "{} bytes for {}", spare.size(), sums_.size());
  MUSTER_TRY(device_.Use());
  for (const auto part : parts) {
    const auto offset = static_cast<size_t>(part.data() - sums_.data());
    MUSTER_TRY(device_.CopyOut(spare.subspan(offset, part.size()), AddressOf(device_sums_) + offset,
                               copy_stream_));
  }
  const cuda::Event handed_out = handed_out_[++hand_outs_ % handed_out_.size()];
  MUSTER_TRY(device_.Record(handed_out, copy_stream_));
  return HandedOut{spare, [this, handed_out]() -> Status {
                     MUSTER_TRY(device_.Use());
                     return AwaitWork(handed_out);
                   }};
}

std::shared_ptr<void> DeviceMath::Pin(std::span<std::byte> memory) {
  auto pinned = device_.Pin(memory);
  if (pinned) return *pinned;
  log::warn("pinned=no mib={} reason=\"{}\"; copies from and to the GPU are slower",
            memory.size() >> 20, pinned.error().message);
  return nullptr;
}

}  // namespace muster
