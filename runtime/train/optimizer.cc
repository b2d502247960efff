#include "runtime/train/optimizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/base/check.h"
#include "runtime/train/update_rules.h"

namespace muster {
namespace {

void CheckSpans(std::span<float> parameter, std::span<const float> gradient,
                std::span<const std::span<float>> slots, size_t slot_count) {
  MUSTER_CHECK(gradient.size() == parameter.size(), "{} gradients for {} elements", gradient.size(),
               parameter.size());
  MUSTER_CHECK(slots.size() == slot_count, "{} slots, expected {}", slots.size(), slot_count);
  for (const auto& slot : slots) {
    MUSTER_CHECK(slot.size() == parameter.size(), "a slot of {} for {} elements", slot.size(),
                 parameter.size());
  }
}

class SgdOptimizer : public Optimizer {
 public:
  explicit SgdOptimizer(const SgdOptions& options) : options_(options) {}

  std::string Describe() const override {
    return fmt::format("sgd momentum={} weight_decay={} nesterov={}", options_.momentum,
                       options_.weight_decay, options_.nesterov);
  }

  std::vector<std::string> Slots() const override { return {"momentum"}; }

  void Update(const UpdateContext& context, std::span<float> parameter,
              std::span<const float> gradient,
              std::span<const std::span<float>> slots) const override {
    CheckSpans(parameter, gradient, slots, 1);
    const SgdRule rule = RuleAt(context);
    float* p = parameter.data();
    const float* g = gradient.data();
    float* m = slots[0].data();
    for (size_t i = 0; i < parameter.size(); ++i) rule(g[i], p[i], m[i]);
  }

  std::optional<UpdateRule> Rule(const UpdateContext& context) const override {
    return RuleAt(context);
  }

 private:
  SgdRule RuleAt(const UpdateContext& context) const {
    return {static_cast<float>(context.learning_rate), static_cast<float>(options_.momentum),
            static_cast<float>(options_.weight_decay), options_.nesterov};
  }

  SgdOptions options_;
};

class AdamWOptimizer : public Optimizer {
 public:
  explicit AdamWOptimizer(const AdamWOptions& options) : options_(options) {}

  std::string Describe() const override {
    return fmt::format("adamw beta1={} beta2={} epsilon={} weight_decay={}", options_.beta1,
                       options_.beta2, options_.epsilon, options_.weight_decay);
  }

  std::vector<std::string> Slots() const override { return {"mean", "variance"}; }

  void Update(const UpdateContext& context, std::span<float> parameter,
              std::span<const float> gradient,
              std::span<const std::span<float>> slots) const override {
    CheckSpans(parameter, gradient, slots, 2);
    const AdamWRule rule = RuleAt(context);
    float* p = parameter.data();
    const float* g = gradient.data();
    float* m = slots[0].data();
    float* v = slots[1].data();
    for (size_t i = 0; i < parameter.size(); ++i) rule(g[i], p[i], m[i], v[i]);
  }

  std::optional<UpdateRule> Rule(const UpdateContext& context) const override {
    return RuleAt(context);
  }

 private:
  AdamWRule RuleAt(const UpdateContext& context) const {
    const double updates = static_cast<double>(context.step) + 1;
    return {.beta1 = static_cast<float>(options_.beta1),
            .beta2 = static_cast<float>(options_.beta2),
            .new1 = static_cast<float>(1 - options_.beta1),
            .new2 = static_cast<float>(1 - options_.beta2),
            .correction1 = static_cast<float>(1 / (1 - std::pow(options_.beta1, updates))),
            .correction2 = static_cast<float>(1 / (1 - std::pow(options_.beta2, updates))),
            .epsilon = static_cast<float>(options_.epsilon),
            .rate = static_cast<float>(context.learning_rate),
            .kept = static_cast<float>(1 - context.learning_rate * options_.weight_decay)};
  }

  AdamWOptions options_;
};

}  // namespace

Schedule ConstantRate(double rate) {
  return [rate](uint64_t) { return rate; };
}

Schedule WarmupRate(double rate, uint64_t warmup) {
  return [=](uint64_t step) {
    return step < warmup ? rate * static_cast<double>(step) / static_cast<double>(warmup) : rate;
  };
}

Schedule CosineRate(double rate, uint64_t warmup, uint64_t total, double final_rate) {
  return [=](uint64_t step) {
    if (step >= total) return final_rate;
    if (step < warmup) return rate * static_cast<double>(step) / static_cast<double>(warmup);
    const double progress =
        static_cast<double>(step - warmup) / static_cast<double>(total - warmup);
    return final_rate + (rate - final_rate) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
  };
}

Schedule StepDecayRate(double rate, uint64_t every, double factor) {
  MUSTER_CHECK(every > 0, "StepDecayRate needs a decay every 1 step or more");
  return [=](uint64_t step) {
    const uint64_t decays = step / every;
    return rate * std::pow(factor, static_cast<double>(decays));
  };
}

std::unique_ptr<Optimizer> Sgd(const SgdOptions& options) {
  MUSTER_CHECK(options.momentum >= 0 && options.momentum < 1, "momentum={}", options.momentum);
  MUSTER_CHECK(options.weight_decay >= 0, "weight_decay={}", options.weight_decay);
  return std::make_unique<SgdOptimizer>(options);
}

std::unique_ptr<Optimizer> AdamW(const AdamWOptions& options) {
  MUSTER_CHECK(options.beta1 >= 0 && options.beta1 < 1, "beta1={}", options.beta1);
  MUSTER_CHECK(options.beta2 >= 0 && options.beta2 < 1, "beta2={}", options.beta2);
  MUSTER_CHECK(options.epsilon > 0, "epsilon={}", options.epsilon);
  MUSTER_CHECK(options.weight_decay >= 0, "weight_decay={}", options.weight_decay);
  return std::make_unique<AdamWOptimizer>(options);
}

}  // namespace muster
