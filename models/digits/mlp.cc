#include "models/digits/mlp.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/digits/gpu_mlp.h"
#include "runtime/base/check.h"

namespace muster {
namespace {

// The order of Parameters().
enum { kWeight1, kBias1, kWeight2, kBias2 };

constexpr int64_t kEvaluationBatch = 256;

// A row-major matrix, or its transpose, as a factor.
struct Factor {
  const float* data;
  int64_t columns;  // of the matrix in memory
  CBLAS_TRANSPOSE transpose = CblasNoTrans;
};

// c [m, n] = a [m, k] x b [k, n] + beta x c.
void Multiply(int64_t m, int64_t n, int64_t k, Factor a, Factor b, float beta, float* c) {
  const auto blas = [](int64_t extent) { return static_cast<blasint>(extent); };
  cblas_sgemm(CblasRowMajor, a.transpose, b.transpose, blas(m), blas(n), blas(k), 1.0f, a.data,
              blas(a.columns), b.data, blas(b.columns), beta, c, blas(n));
}

// Every row of matrix [count, bias.size()] becomes a copy of `bias`.
void FillRows(std::span<const float> bias, int64_t count, std::vector<float>& matrix) {
  matrix.resize(static_cast<size_t>(count) * bias.size());
  for (auto row = matrix.begin(); row != matrix.end();) row = std::ranges::copy(bias, row).out;
}

// sums [n] += the rows of matrix [count, n], first row first.
void AddRows(std::span<const float> matrix, std::span<float> sums) {
  for (auto row = matrix.begin(); row != matrix.end();) {
    for (float& sum : sums) sum += *row++;
  }
}

void FillNormal(std::span<float> weights, int64_t inputs, Random& random) {
  const auto deviation = static_cast<float>(std::sqrt(2.0 / static_cast<double>(inputs)));
  for (float& weight : weights) weight = deviation * random.Normal();
}

}  // namespace

std::vector<Parameter> Mlp::Parameters() const {
  return {{"fc1.weight", {shape_.inputs, shape_.hidden}},
          {"fc1.bias", {shape_.hidden}},
          {"fc2.weight", {shape_.hidden, shape_.classes}},
          {"fc2.bias", {shape_.classes}}};
}

void Mlp::Initialize(Tensors parameters, Random& random) {
  FillNormal(parameters[kWeight1], shape_.inputs, random);
  FillNormal(parameters[kWeight2], shape_.hidden, random);
  std::ranges::fill(parameters[kBias1], 0.0f);
  std::ranges::fill(parameters[kBias2], 0.0f);
}

void Mlp::AddNoise(const Batch& data, Random random) {
  inputs_ = data.features;
  if (noise_ <= 0) return;
  for (float& value : inputs_) value += random.Uniform(-noise_, noise_);
}

void Mlp::Forward(const float* features, int64_t count, ConstTensors parameters) {
  const auto [inputs, hidden, classes] = shape_;
  // hidden_ [count, hidden] = ReLU(features [count, inputs] x weight1 [inputs, hidden] + bias1)
  FillRows(parameters[kBias1], count, hidden_);
  Multiply(count, hidden, inputs, {features, inputs}, {parameters[kWeight1].data(), hidden}, 1,
           hidden_.data());
  for (float& value : hidden_) value = std::max(value, 0.0f);
  // logits_ [count, classes] = hidden_ [count, hidden] x weight2 [hidden, classes] + bias2
  FillRows(parameters[kBias2], count, logits_);
  Multiply(count, classes, hidden, {hidden_.data(), hidden}, {parameters[kWeight2].data(), classes},
           1, logits_.data());
}

double Mlp::SoftmaxLoss(std::span<const int32_t> labels) {
  const auto classes = static_cast<size_t>(shape_.classes);
  const double share = 1.0 / static_cast<double>(labels.size());
  double loss = 0;
  std::vector<double> powers(classes);
  for (size_t i = 0; i < labels.size(); ++i) {
    const std::span<float> row = std::span(logits_).subspan(i * classes, classes);
    // Without the largest logit no power overflows, and the quotients stay the same.
    const double largest = *std::ranges::max_element(row);
    const double correct = row[labels[i]] - largest;
    for (size_t j = 0; j < classes; ++j) powers[j] = std::exp(row[j] - largest);
    const double sum = std::accumulate(powers.begin(), powers.end(), 0.0);
    loss += (std::log(sum) - correct) * share;
    for (size_t j = 0; j < classes; ++j) {
      const double target = std::cmp_equal(j, labels[i]) ? 1 : 0;
      row[j] = static_cast<float>((powers[j] / sum - target) * share);
    }
  }
  return loss;
}

void Mlp::Backward(const float* features, int64_t count, ConstTensors parameters,
                   Tensors gradients) {
  const auto [inputs, hidden, classes] = shape_;
  const float* logit_gradient = logits_.data();
  // weight2 [hidden, classes] += transposed hidden_ [hidden, count] x logit_gradient [count, classes]
  Multiply(hidden, classes, count, {hidden_.data(), hidden, CblasTrans}, {logit_gradient, classes},
           1, gradients[kWeight2].data());
  AddRows(logits_, gradients[kBias2]);
  // hidden_gradient_ [count, hidden] = logit_gradient x transposed weight2, where ReLU let the value pass
  hidden_gradient_.resize(hidden_.size());
  Multiply(count, hidden, classes, {logit_gradient, classes},
           {parameters[kWeight2].data(), classes, CblasTrans}, 0, hidden_gradient_.data());
  for (size_t i = 0; i < hidden_.size(); ++i) {
    if (hidden_[i] <= 0) hidden_gradient_[i] = 0;
  }
  // weight1 [inputs, hidden] += transposed features [inputs, count] x hidden_gradient_ [count, hidden]
  Multiply(inputs, hidden, count, {features, inputs, CblasTrans}, {hidden_gradient_.data(), hidden},
           1, gradients[kWeight1].data());
  AddRows(hidden_gradient_, gradients[kBias1]);
}

double Mlp::TrainMicroBatch(const MicroBatch& batch, ConstTensors parameters, Tensors gradients) {
  const Batch& data = *batch.data;
  AddNoise(data, batch.random);
  Forward(inputs_.data(), data.size, parameters);
  const double loss = SoftmaxLoss(data.labels);
  Backward(inputs_.data(), data.size, parameters, gradients);
  return loss;
}

Result<std::unique_ptr<GpuModel>> Mlp::OnGpu(cuda::Device& device) {
  return GpuMlp::Create(device, shape_, noise_);
}

Metrics Mlp::Evaluate(ConstTensors parameters) {
  int64_t correct = 0;
  Batch batch;
  for (int64_t begin = 0; begin < test_.size(); begin += kEvaluationBatch) {
    std::vector<int64_t> rows(std::min(kEvaluationBatch, test_.size() - begin));
    std::iota(rows.begin(), rows.end(), begin);
    const Status read = test_.Read(rows, batch);
    MUSTER_CHECK(read.has_value(), "{}", read.error().ToString());
    Forward(batch.features.data(), batch.size, parameters);
    for (int64_t i = 0; i < batch.size; ++i) {
      const auto row = logits_.begin() + i * shape_.classes;
      correct += std::max_element(row, row + shape_.classes) - row == batch.labels[i] ? 1 : 0;
    }
  }
  return {{"test_accuracy", static_cast<double>(correct) / static_cast<double>(test_.size())}};
}

}  // namespace muster
