// Train(): the loop that most programs need, on top of Session.
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "runtime/base/log.h"
#include "runtime/train/gpu.h"
#include "runtime/train/session.h"
#include "runtime/train/train.h"

namespace muster {

namespace {

constexpr uint64_t kInitializeStream = UINT64_MAX;

int ExitCode(const Error& error, bool checkpoint) {
  if (error.code == Code::kCancelled) return 0;
  if (error.code == Code::kInvalidArgument) return 2;
  return checkpoint ? 6 : 3;
}

int Complain(const Error& error, bool checkpoint = false) {
  if (error.code != Code::kCancelled) std::fprintf(stderr, "error: %s\n", error.ToString().c_str());
  return ExitCode(error, checkpoint);
}

// Alone, there is no launcher to show progress: a line a second on stderr, and the result on stdout.
class AloneConsole {
 public:
  explicit AloneConsole(uint64_t steps) : steps_(steps), start_(MonotonicNow()), last_(start_) {}

  void Progress(const StepSummary& summary) {
    const TimePoint now = MonotonicNow();
    if (now - last_ < std::chrono::seconds(1)) return;
    last_ = now;
    const double done = static_cast<double>(summary.step + 1 - first_);
    const double left =
        Seconds(now - start_) / done * static_cast<double>(steps_ - summary.step - 1);
    std::fprintf(stderr, "step %llu/%llu  loss %.4f  ETA %.0f s\n",
                 static_cast<unsigned long long>(summary.step) + 1,
                 static_cast<unsigned long long>(steps_), summary.loss, left);
  }

  void StartAt(uint64_t step) { first_ = step; }

  void Finished(const RunResult& result) const {
    nlohmann::ordered_json json = {
        {"event", "finished"},       {"phase", result.stopped ? "stopped" : "succeeded"},
        {"step", result.step},       {"loss", nullptr},
        {"weights", result.weights}, {"samples_consumed", result.samples_consumed},
        {"generations", 1},          {"seconds", Seconds(MonotonicNow() - start_)},
        {"misses", result.misses},   {"metrics", result.metrics}};
    if (std::isfinite(result.loss)) json["loss"] = result.loss;
    std::printf("%s\n", json.dump().c_str());
  }

 private:
  uint64_t steps_;
  uint64_t first_ = 0;
  TimePoint start_;
  TimePoint last_;
};

SessionSpec MakeSpec(Model& model, std::unique_ptr<GpuModel>& on_gpu, const Dataset& dataset,
                     const Optimizer& optimizer, const TrainOptions& options) {
  SessionSpec spec;
  spec.parameters = model.Parameters();
  spec.initialize = [&model, seed = options.seed](Tensors parameters) {
    Random random(seed, kInitializeStream);
    model.Initialize(parameters, random);
  };
  spec.optimizer = &optimizer;
  spec.options = options;
  spec.dataset_size = dataset.size();
  spec.move_to = [&](cuda::Device& device) -> Result<std::string> {
    MUSTER_ASSIGN(on_gpu, model.OnGpu(device));
    return on_gpu->Numerics();
  };
  return spec;
}

}  // namespace

int Train(Model& model, const Dataset& dataset, const Optimizer& optimizer,
          const TrainOptions& options) {
  std::unique_ptr<GpuModel> on_gpu;
  auto created = Session::Create(MakeSpec(model, on_gpu, dataset, optimizer, options));
  if (!created) {
    const bool checkpoint = created.error().code == Code::kDataLoss ||
                            created.error().code == Code::kFailedPrecondition ||
                            created.error().code == Code::kNotFound;
    return Complain(created.error(), checkpoint);
  }
  auto& session = static_cast<ElasticSession&>(**created);
  const bool alone = std::getenv("MUSTER_JOB_DIR") == nullptr;
  AloneConsole console(options.steps);
  console.StartAt(session.step());

  Batch batch;
  const ComputeMicroBatch compute = [&](const MicroBatch& micro_batch, ConstTensors parameters,
                                        Tensors gradients) -> Result<double> {
    MicroBatch filled = micro_batch;
    filled.data = &batch;
    MUSTER_TRY(dataset.Read(micro_batch.samples, batch));
    if (filled.gpu == nullptr) return model.TrainMicroBatch(filled, parameters, gradients);
    MUSTER_TRY(on_gpu->TrainMicroBatch(filled, parameters, gradients));
    return 0.0;
  };
  while (!session.done()) {
    const auto summary = session.Step(compute);
    if (!summary) return Complain(summary.error());
    if (alone) console.Progress(*summary);
  }
  const auto parameters = session.parameters();
  if (!parameters) return Complain(parameters.error());
  const Metrics metrics = model.Evaluate(*parameters);
  if (Status finished = session.Finish(metrics); !finished) return Complain(finished.error());
  if (alone) console.Finished(session.result());
  return 0;
}

}  // namespace muster
