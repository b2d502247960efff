#include "models/digits/gpu_mlp.h"

#include <cstring>
#include <utility>

#include "models/digits/mlp_image.h"
#include "models/digits/mlp_kernels.h"

namespace muster {
namespace {

// The order of Mlp::Parameters().
enum { kWeight1, kBias1, kWeight2, kBias2 };

constexpr auto kCopyTimeout = std::chrono::minutes(1);

}  // namespace

Result<std::unique_ptr<GpuModel>> GpuMlp::Create(cuda::Device& device, const Mlp::Shape& shape,
                                                 float noise) {
  std::unique_ptr<GpuMlp> model(new GpuMlp(device, shape, noise));
  MUSTER_ASSIGN(model->blas_, Blas::Create(device));
  MUSTER_TRY(model->FindKernels());
  return std::unique_ptr<GpuModel>(std::move(model));
}

Status GpuMlp::FindKernels() {
  const auto find = [this](const char* name) { return device_.FindKernel(kMlpKernels, name); };
  MUSTER_ASSIGN(kernels_.fill_rows, find("mlp_fill_rows"));
  MUSTER_ASSIGN(kernels_.add_rows, find("mlp_add_rows"));
  MUSTER_ASSIGN(kernels_.relu, find("mlp_relu"));
  MUSTER_ASSIGN(kernels_.mask, find("mlp_mask"));
  MUSTER_ASSIGN(kernels_.softmax, find("mlp_softmax"));
  MUSTER_ASSIGN(kernels_.mean_loss, find("mlp_mean_loss"));
  return {};
}

Status GpuMlp::Allocate(int64_t count) {
  const auto rows = static_cast<size_t>(count);
  const auto array = [&]<typename T>(T*& pointer, int64_t columns) -> Status {
    MUSTER_ASSIGN(const cuda::DevicePointer memory,
                  device_.Allocate(rows * static_cast<size_t>(columns) * sizeof(T)));
    pointer = cuda::PointerOf<T>(memory);
    return {};
  };
  const size_t input_bytes = rows * static_cast<size_t>(shape_.inputs) * sizeof(float);
  const size_t sample_bytes = input_bytes + rows * sizeof(int32_t);
  MUSTER_ASSIGN(samples_, device_.Allocate(sample_bytes));
  inputs_ = cuda::PointerOf<float>(samples_);
  labels_ = cuda::PointerOf<int32_t>(samples_ + input_bytes);
  MUSTER_TRY(array(hidden_, shape_.hidden));
  MUSTER_TRY(array(hidden_gradient_, shape_.hidden));
  MUSTER_TRY(array(logits_, shape_.classes));
  MUSTER_TRY(array(losses_, 1));
  for (Slot& slot : slots_) {
    MUSTER_ASSIGN(slot.memory, device_.AllocateHost(sample_bytes));
    MUSTER_ASSIGN(slot.read, device_.MakeEvent());
  }
  count_ = count;
  return {};
}

Status GpuMlp::CopySamples(const MicroBatch& batch) {
  const Batch& data = *batch.data;
  Slot& slot = slots_[next_slot_++ % kSlots];
  MUSTER_TRY(device_.Await(slot.read, "a copy of samples", MonotonicNow() + kCopyTimeout));
  auto* inputs = reinterpret_cast<float*>(slot.memory.data());
  Random random = batch.random;
  for (const float feature : data.features) {
    *inputs++ = noise_ > 0 ? feature + random.Uniform(-noise_, noise_) : feature;
  }
  std::memcpy(inputs, data.labels.data(), data.labels.size() * sizeof(int32_t));
  MUSTER_TRY(device_.CopyIn(samples_, slot.memory, batch.gpu->stream));
  return device_.Record(slot.read, batch.gpu->stream);
}

Status GpuMlp::Forward(ConstTensors parameters, cuda::Stream stream) {
  const auto [inputs, hidden, classes] = shape_;
  const auto rows = static_cast<size_t>(count_);
  // output [count, bias.size()] = factor [count, k] x weight [k, bias.size()] + bias
  const auto layer = [&](const float* factor, int64_t k, std::span<const float> weight,
                         std::span<const float> bias, float* output) -> Status {
    const digits::MatrixArguments fill{output, rows, bias.size(), const_cast<float*>(bias.data())};
    MUSTER_TRY(device_.LaunchEach(kernels_.fill_rows, rows * bias.size(), fill, stream));
    const auto n = static_cast<int64_t>(bias.size());
    return blas_->Multiply(count_, n, k, {factor, k}, {weight.data(), n}, 1, output, stream);
  };
  MUSTER_TRY(layer(inputs_, inputs, parameters[kWeight1], parameters[kBias1], hidden_));
  const auto hidden_columns = static_cast<size_t>(hidden);
  MUSTER_TRY(device_.LaunchEach(kernels_.relu, rows * hidden_columns,
                                digits::MatrixArguments{hidden_, rows, hidden_columns}, stream));
  return layer(hidden_, hidden, parameters[kWeight2], parameters[kBias2], logits_);
}

Status GpuMlp::Backward(const GpuWork& gpu, ConstTensors parameters, Tensors gradients) {
  const cuda::Stream stream = gpu.stream;
  const auto [inputs, hidden, classes] = shape_;
  const auto rows = static_cast<size_t>(count_);
  // weight [m, n] += transposed factor [m, count] x gradient [count, n]; bias [n] += the rows of gradient
  const auto layer = [&](const float* factor, int64_t m, float* gradient, int64_t n,
                         std::span<float> weight, std::span<float> bias) -> Status {
    MUSTER_TRY(
        blas_->Multiply(m, n, count_, {factor, m, true}, {gradient, n}, 1, weight.data(), stream));
    return device_.LaunchEach(kernels_.add_rows, bias.size(),
                              digits::MatrixArguments{gradient, rows, bias.size(), bias.data()},
                              stream);
  };
  MUSTER_TRY(layer(hidden_, hidden, logits_, classes, gradients[kWeight2], gradients[kBias2]));
  MUSTER_TRY(gpu.ready(kWeight2));
  // hidden_gradient_ [count, hidden] = logits_ x transposed weight2, where ReLU let the value pass
  MUSTER_TRY(blas_->Multiply(count_, hidden, classes, {logits_, classes},
                             {parameters[kWeight2].data(), classes, true}, 0, hidden_gradient_,
                             stream));
  const auto hidden_columns = static_cast<size_t>(hidden);
  const digits::MatrixArguments mask{hidden_gradient_, rows, hidden_columns, nullptr, hidden_};
  MUSTER_TRY(device_.LaunchEach(kernels_.mask, rows * hidden_columns, mask, stream));
  return layer(inputs_, inputs, hidden_gradient_, hidden, gradients[kWeight1], gradients[kBias1]);
}

Status GpuMlp::TrainMicroBatch(const MicroBatch& batch, ConstTensors parameters,
                               Tensors gradients) {
  if (count_ == 0) MUSTER_TRY(Allocate(batch.data->size));
  const cuda::Stream stream = batch.gpu->stream;
  const auto rows = static_cast<size_t>(count_);
  MUSTER_TRY(CopySamples(batch));
  MUSTER_TRY(Forward(parameters, stream));
  MUSTER_TRY(
      device_.LaunchEach(kernels_.softmax, rows,
                         digits::SoftmaxArguments{
                             logits_, rows, static_cast<size_t>(shape_.classes), labels_, losses_},
                         stream));
  MUSTER_TRY(device_.Launch(kernels_.mean_loss, 1,
                            digits::MeanLossArguments{losses_, rows, batch.gpu->loss}, stream));
  return Backward(*batch.gpu, parameters, gradients);
}

}  // namespace muster
