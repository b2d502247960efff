// Muster's training API, the one header a training program includes.
//
// You write a Model: its parameters, how they start, and forward/backward for one micro-batch. Train() does the rest:
// it musters with the other workers (or trains alone when the program is run by hand), splits every step's micro-batches
// over whoever is there, sums their gradients exactly, updates, checkpoints, and goes on through joins and deaths.
// Your program never sees a rank, and the trained weights do not depend on how many workers there were.
//
// What you must keep: TrainMicroBatch is a function of its arguments (parameters, batch, batch.random) and of nothing else:
// no clock, no other random numbers, no memory of earlier calls. The same input must give the same bits.
//
// Threading: Train() and the methods of Session run on the thread that calls them; your Model, Dataset and Optimizer are
// only called from it. A complete program is in docs/training-api.md; those of models/ are larger examples.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/train/dataset.h"
#include "runtime/train/optimizer.h"
#include "runtime/train/random.h"

namespace muster {

namespace cuda {
class Device;
}
class GpuModel;  // gpu.h
struct GpuWork;

// A named float array that is trained.
struct Parameter {
  std::string name;            // unique: "fc1.weight"
  std::vector<int64_t> shape;  // row-major
  int64_t size() const;
};

// The arrays of all parameters (or of their gradients), in the order of Model::Parameters().
using Tensors = std::span<const std::span<float>>;
using ConstTensors = std::span<const std::span<const float>>;

// One unit of work: `samples` of one step. What it is does not depend on the number of workers.
struct MicroBatch {
  uint64_t step = 0;                 // 0 is the first
  int index = 0;                     // 0 to V - 1 within the step
  std::span<const int64_t> samples;  // indices into the dataset
  const Batch* data = nullptr;       // the samples' content, read from the dataset
  Random random;                     // a stream of its own: (seed, step, index)
  const GpuWork* gpu = nullptr;      // on a GPU: where to compute (gpu.h)
};

using Metrics = std::map<std::string, double>;

class Model {
 public:
  virtual ~Model() = default;

  virtual std::vector<Parameter> Parameters() const = 0;

  // Fills the parameters before step 0. Called on one worker; the others receive the result.
  virtual void Initialize(Tensors parameters, Random& random) = 0;

  // Forward and backward of one micro-batch: returns the mean loss of its samples and adds the gradient of that mean
  // to `gradients`, which are zero on entry.
  virtual double TrainMicroBatch(const MicroBatch& batch, ConstTensors parameters,
                                 Tensors gradients) = 0;

  // The same model on a GPU, if this worker has one: what then trains instead of TrainMicroBatch(). It may refer to this model. Errors:
  // kUnimplemented, which is what a model answers that trains on CPUs only; others end the job.
  virtual Result<std::unique_ptr<GpuModel>> OnGpu(cuda::Device& device);

  // Results of the trained model (accuracy, ...), reported under "metrics". Called once, at the end, on every worker.
  virtual Metrics Evaluate(ConstTensors parameters) {
    (void)parameters;
    return {};
  }
};

enum class Reduce { kExact, kFloat };
enum class NonFinite { kFail, kSkip };

struct TrainOptions {
  uint64_t steps = 400;        // optimizer updates, 1 to 10^12
  uint64_t seed = 1;           // of initialisation, sample order and MicroBatch::random
  int micro_batches = 16;      // V per step, 1 to 65,536; the number of workers cannot be larger
  int batch_size = 16;         // samples per micro-batch, 1 to 1,048,576
  std::filesystem::path data;  // folder with the data set; empty: the program's default
  Schedule learning_rate = ConstantRate(0.1);
  double clip_norm =
      0;  // gradients with a larger global L2 norm are scaled down to it; 0: no clipping
  int lane_bits = 0;      // exact sums in 32 or 64 bits; 0: 64 below a million parameters, else 32
  int headroom_bits = 4;  // growth of gradients between steps that needs no redo, 0 to 20
  NonFinite non_finite =
      NonFinite::kFail;  // a NaN or infinity in a gradient ends the job, or skips that update

  // Errors: kInvalidArgument, naming the flag and its range.
  Status Validate() const;
};

// Parses --steps --seed --micro-batches --batch-size --data over the defaults in `defaults`; prints help and exits with 0 on
// --help, prints what is wrong and exits with 2 on a bad flag. `about` is a sentence for the help. Call it first in main().
TrainOptions ParseTrainOptions(int argc, char** argv, const std::string& about,
                               TrainOptions defaults = {});

// Trains and returns the exit code for main(): 0 finished (or stopped when asked), 2 configuration, 3 failed, 6 no usable checkpoint.
int Train(Model& model, const Dataset& dataset, const Optimizer& optimizer,
          const TrainOptions& options);

// The lower level, for programs with a loop of their own.
//
//   auto session = Session::Create(spec);                     // musters; restores or initialises the state
//   while (!session->done()) {
//     auto step = session->Step(compute);                     // calls compute for this worker's micro-batches
//     ...                                                     // here the step is committed and applied
//   }
//   session->Finish(metrics);
//
// `compute` may be called again for the same micro-batches when a step is redone after a membership change.
struct SessionSpec {
  std::vector<Parameter> parameters;
  std::function<void(Tensors)> initialize;  // called on one worker if there is nothing to restore
  const Optimizer* optimizer = nullptr;     // must outlive the session
  TrainOptions options;
  int64_t dataset_size = 0;  // samples in an epoch; at least 1
  // Called once if this worker has a GPU: makes ready to train on it, and returns GpuModel::Numerics(). Then MicroBatch::gpu is set, and
  // parameters and gradients are in its memory. Empty: the program trains on CPUs only.
  std::function<Result<std::string>(cuda::Device&)> move_to = {};
};

// The work to be done for one micro-batch: returns its mean loss, or an error that ends the job (data that cannot be read). See
// MicroBatch; `data` is null, the program reads `samples` itself. On a GPU the loss goes to MicroBatch::gpu, not here.
using ComputeMicroBatch =
    std::function<Result<double>(const MicroBatch&, ConstTensors parameters, Tensors gradients)>;

struct StepSummary {
  uint64_t step = 0;         // the step that was committed; the state now holds step + 1 updates
  double loss = 0;           // mean over the V micro-batches
  double gradient_norm = 0;  // global L2 norm of the mean gradient, before clipping
  bool skipped = false;      // no update: non-finite gradient
};

class Session {
 public:
  // Joins the job named by the environment that the agent sets, or trains alone. Blocks until this worker is in a
  // generation and holds its state; deadlines are the coordinator's.
  // Errors: kInvalidArgument, kFailedPrecondition (checkpoint of another run), kDataLoss, kUnavailable.
  static Result<std::unique_ptr<Session>> Create(const SessionSpec& spec);
  virtual ~Session() = default;

  // True when all steps are committed, or the job was asked to stop and has stopped.
  virtual bool done() const = 0;
  virtual uint64_t step() const = 0;
  // In host memory, as they are after the last step; fetched from a GPU if this worker has one. Errors: kInternal (the GPU has failed).
  virtual Result<ConstTensors> parameters() = 0;

  // Computes, reduces, votes, commits and applies one step; comes back when it is committed, through any number of membership
  // changes. Errors: kCancelled (this worker was released: exit with 0), kDataLoss or kInternal (the job has failed).
  virtual Result<StepSummary> Step(const ComputeMicroBatch& compute) = 0;

  // Reports the result, waits until every member has what it needs from this one. Errors: as Step.
  virtual Status Finish(const Metrics& metrics) = 0;
};

}  // namespace muster
