// Optimizers and learning-rate schedules. Updates are elementwise: an element of a parameter depends on its own gradient and
// slots and on scalars only, so any part of the state can be updated anywhere, in any order, with the same bits.
//
// Threading: const objects, safe from several threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/train/update_rules.h"

namespace muster {

// The learning rate of step k (0 is the first).
using Schedule = std::function<double(uint64_t step)>;
Schedule ConstantRate(double rate);
// Linear warm-up from 0 over `warmup` steps, then constant.
Schedule WarmupRate(double rate, uint64_t warmup);
// Linear warm-up, then a cosine from `rate` to `final_rate` at step `total` (Loshchilov and Hutter 2017).
Schedule CosineRate(double rate, uint64_t warmup, uint64_t total, double final_rate = 0);
// `rate` x `factor`^(step / every).
Schedule StepDecayRate(double rate, uint64_t every, double factor);

struct UpdateContext {
  uint64_t step = 0;  // 0 is the first
  double learning_rate = 0;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Name and hyper-parameters in one line, for checkpoints: "adamw beta1=0.9 ...".
  virtual std::string Describe() const = 0;
  // Names of the float arrays kept per parameter, each as large as the parameter, zero at first.
  virtual std::vector<std::string> Slots() const = 0;
  // Updates one parameter, or a part of one: all spans have the same length; slots in the order of Slots().
  virtual void Update(const UpdateContext& context, std::span<float> parameter,
                      std::span<const float> gradient,
                      std::span<const std::span<float>> slots) const = 0;
  // The same as a rule for one element, from which GPU kernels are made; nothing: this optimizer runs on CPUs only.
  virtual std::optional<UpdateRule> Rule(const UpdateContext& context) const {
    (void)context;
    return {};
  }
};

// SGD with momentum: m = momentum x m + g + weight_decay x p; p -= rate x m (or rate x (g + momentum x m) with nesterov).
struct SgdOptions {
  double momentum = 0.9;
  double weight_decay = 0;
  bool nesterov = false;
};
std::unique_ptr<Optimizer> Sgd(const SgdOptions& options = {});

// AdamW (Loshchilov and Hutter 2019), bias-corrected by the step number.
struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
};
std::unique_ptr<Optimizer> AdamW(const AdamWOptions& options = {});

}  // namespace muster
