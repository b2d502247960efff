// Fits a line to points with a loop of its own, on the level below Train().
#include <cstdio>
#include <memory>

#include "runtime/train/train.h"

using namespace muster;

// Sample i is the point (x, 3 x - 1) at x = i / 1000.
double FitLine(const MicroBatch& batch, ConstTensors parameters, Tensors gradients) {
  double loss = 0;
  const float share = 1.0f / static_cast<float>(batch.samples.size());
  for (int64_t sample : batch.samples) {
    const float x = static_cast<float>(sample) / 1000;
    const float error = parameters[0][0] * x + parameters[0][1] - (3 * x - 1);
    loss += 0.5 * error * error * share;
    gradients[0][0] += error * x * share;
    gradients[0][1] += error * share;
  }
  return loss;
}

int Fail(const Error& error) {
  if (error.code == Code::kCancelled) return 0;  // this worker is no longer needed
  std::fprintf(stderr, "line: %s\n", error.ToString().c_str());
  return error.code == Code::kInvalidArgument ? 2 : 3;
}

int main(int argc, char** argv) {
  const auto optimizer = Sgd({.momentum = 0.5});
  SessionSpec spec;
  spec.parameters = {{"line", {2}}};
  spec.initialize = [](Tensors parameters) { parameters[0][0] = parameters[0][1] = 0; };
  spec.optimizer = optimizer.get();
  spec.options = ParseTrainOptions(argc, argv, "Fits a line.");
  spec.dataset_size = 1000;

  auto session = Session::Create(spec);
  if (!session) return Fail(session.error());
  while (!(*session)->done()) {
    const auto step = (*session)->Step(FitLine);
    if (!step) return Fail(step.error());
  }
  const auto parameters = (*session)->parameters();
  if (!parameters) return Fail(parameters.error());
  const auto line = (*parameters)[0];
  std::printf("y = %.3f x + %.3f\n", line[0], line[1]);
  const Status finished = (*session)->Finish({{"slope", line[0]}, {"offset", line[1]}});
  return finished ? 0 : Fail(finished.error());
}
