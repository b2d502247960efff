// A training program whose speed and size a test chooses, through the environment, so that faults hit the moment they are
// meant for. Neither the pace nor the extra output changes the bits; the size does. On a GPU they are those of the CPU.
//
//   PACED_MS=5            a micro-batch takes 5 ms; it sleeps, so that many workers need few cores
//   PACED_BUSY_MS=5       the same, but it computes all that time
//   PACED_SLOW_FILE=slow  but only while that file is there: the test removes it when it has done what it wanted to do
//   PACED_FLOATS=1000000  so many parameters: a joiner's transfer takes a while
//   PACED_PRINT=4096      each micro-batch prints so many bytes
//   PACED_TIMES=folder    "STEP SECONDS" for each step that is begun, by the monotonic clock, in a file of this worker
//   PACED_NAN_AT=7        the loss of step 7 is not a number
//   PACED_CRASH_AT=7      whoever computes in step 7 is aborted
//   PACED_HANG_AT=7       the first micro-batch of step 7 never ends, while the file PACED_HANG_FILE is there
#include <time.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>
#include <thread>

#include "runtime/train/testing/through_host.h"
#include "runtime/train/train.h"

using namespace muster;

namespace {

constexpr int64_t kSamples = 1000;

double Now(clockid_t clock) {
  timespec now;
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double Knob(const char* name, double otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::atof(value) : otherwise;
}

class Paced : public Model {
 public:
  std::vector<Parameter> Parameters() const override {
    return {{"values", {static_cast<int64_t>(Knob("PACED_FLOATS", 64))}}};
  }

  void Initialize(Tensors parameters, Random& random) override {
    for (float& value : parameters[0]) value = random.Normal();
  }

  // Pulls every value towards a target that the samples and chance choose.
  double TrainMicroBatch(const MicroBatch& batch, ConstTensors parameters,
                         Tensors gradients) override {
    NoteBegin(batch);
    Misbehave(batch);
    Random random = batch.random;
    float target = 0;
    for (const int64_t sample : batch.samples) target += static_cast<float>(sample);
    target = target / kSamples + random.Uniform();
    double loss = 0;
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      const float error = parameters[0][i] - target - 0.001f * static_cast<float>(i % 97);
      gradients[0][i] += error;
      loss += 0.5 * error * error;
    }
    if (static_cast<double>(batch.step) == nan_at_) return std::numeric_limits<double>::quiet_NaN();
    return loss / static_cast<double>(gradients[0].size());
  }

  Result<std::unique_ptr<GpuModel>> OnGpu(cuda::Device& device) override {
    return std::make_unique<ModelThroughHost>(device, *this);
  }

 private:
  void NoteBegin(const MicroBatch& batch) {
    const char* folder = std::getenv("PACED_TIMES");
    if (folder == nullptr || batch.step == noted_) return;
    noted_ = batch.step;
    if (times_ == nullptr) {
      const std::string file = std::string(folder) + "/" + std::getenv("MUSTER_WORKER_ID") + "." +
                               std::getenv("MUSTER_INCARNATION");
      times_ = std::fopen(file.c_str(), "w");
      std::setvbuf(times_, nullptr, _IOLBF, 4096);
    }
    std::fprintf(times_, "%llu %.6f\n", static_cast<unsigned long long>(batch.step),
                 Now(CLOCK_MONOTONIC));
  }

  void Misbehave(const MicroBatch& batch) {
    const char* slow = std::getenv("PACED_SLOW_FILE");
    if (slow == nullptr || std::filesystem::exists(slow)) {
      std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(pace_ms_));
    }
    const double busy_until = Now(CLOCK_THREAD_CPUTIME_ID) + busy_ms_ / 1e3;
    while (busy_ms_ > 0 && Now(CLOCK_THREAD_CPUTIME_ID) < busy_until) {
    }
    if (static_cast<double>(batch.step) == crash_at_) std::abort();
    if (print_ > 0) std::puts(std::string(print_, 'x').c_str());
    const bool hangs = static_cast<double>(batch.step) == hang_at_ && batch.index == 0;
    const char* file = std::getenv("PACED_HANG_FILE");
    while (hangs && file != nullptr && std::filesystem::exists(file)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  const double pace_ms_ = Knob("PACED_MS", 0);
  const double busy_ms_ = Knob("PACED_BUSY_MS", 0);
  const size_t print_ = static_cast<size_t>(Knob("PACED_PRINT", 0));
  const double nan_at_ = Knob("PACED_NAN_AT", -1);
  const double crash_at_ = Knob("PACED_CRASH_AT", -1);
  const double hang_at_ = Knob("PACED_HANG_AT", -1);
  uint64_t noted_ = UINT64_MAX;
  std::FILE* times_ = nullptr;  // closed by the end of the process
};

// Samples without content: what a micro-batch is follows from their numbers.
class Numbers : public Dataset {
 public:
  int64_t size() const override { return kSamples; }
  int64_t features() const override { return 0; }
  int64_t labels() const override { return 0; }
  Status Read(std::span<const int64_t> samples, Batch& batch) const override {
    batch.size = static_cast<int64_t>(samples.size());
    return {};
  }
};

}  // namespace

int main(int argc, char** argv) {
  TrainOptions options = ParseTrainOptions(argc, argv, "Trains at a chosen pace.", {.steps = 100});
  options.learning_rate = ConstantRate(0.05);
  Paced model;
  return Train(model, Numbers(), *Sgd({.momentum = 0.9}), options);
}
