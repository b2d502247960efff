// Update rules: what an optimizer does to one element, the same for CPU loops and GPU kernels. In float32, with scalars that were
// computed once in double. Add, multiply, divide and square root are correctly rounded in IEEE 754 and never contracted, so a vector
// unit, a scalar remainder and a GPU give the same bits.
//
// Threading: plain values.
#pragma once

#include <cmath>
#include <variant>

#include "runtime/base/host_device.h"

namespace muster {

struct SgdRule {
  static constexpr int kSlots = 1;
  float rate = 0;
  float momentum = 0;
  float decay = 0;
  bool nesterov = false;

  MUSTER_HOST_DEVICE void operator()(float gradient, float& p, float& m) const {
    const float g = gradient + decay * p;
    m = momentum * m + g;
    p -= rate * (nesterov ? g + momentum * m : m);
  }
};

struct AdamWRule {
  static constexpr int kSlots = 2;
  float beta1 = 0;
  float beta2 = 0;
  float new1 = 0;  // 1 - beta1
  float new2 = 0;
  float correction1 = 0;  // of the bias at this step
  float correction2 = 0;
  float epsilon = 0;
  float rate = 0;
  float kept = 0;  // of a parameter, by weight decay

  MUSTER_HOST_DEVICE void operator()(float g, float& p, float& m, float& v) const {
    m = beta1 * m + new1 * g;
    v = beta2 * v + new2 * (g * g);
    const float direction = (m * correction1) / (std::sqrt(v * correction2) + epsilon);
    p = kept * p - rate * direction;
  }
};

// Those that have a GPU kernel.
using UpdateRule = std::variant<SgdRule, AdamWRule>;

}  // namespace muster
