// The methods, each a type: its moments, and the raw update u that the projection works on.
//
// Everything else (kernels, executors, options, state) takes what it has to know of a method from
// its type. docs/extending.md says what a new one needs.
//
// Source: Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
// Weights", ICLR 2021, algorithms 1 and 2, with the constants of the official package.
// adamp_fused/backends/formulas.py states the same lines for Python.
//
// T is a scalar or a vector of lanes, S the scalar type of the arithmetic (float or double).
// Symbols: g gradient, m and v the moments, b the momentum buffer, u the raw update.
#pragma once

#include <stdexcept>

#include "control.h"

namespace adamp {

// The options of a group at one step count, in the type of the arithmetic.
template <class S>
struct Scalars {
  S beta1, one_minus_beta1;  // first moment (SGDP: momentum, 1 - dampening)
  S beta2, one_minus_beta2;  // second moment
  S inv_root_bias_correction2;
  S eps;
  S step_size;               // lr / bias_correction1
  S decay, decay_projected;  // lr*weight_decay, and the same times wd_ratio
  S delta;
  S factor;                          // of the gradient: its scale, and -1 to maximize
  int32_t nesterov, project_buffer;  // no bool: its padding would take a register of the kernels
};

// `factor`: of the gradient, see grad_factor() in control.h.
template <class S>
ADAMP_FN Scalars<S> make_scalars(const Hyper& h, const StepNumbers& now, double factor = 1) {
  const double decay = now.lr * now.weight_decay * h.decay_factor;
  return {S(h.beta1),
          S(h.one_minus_beta1),
          S(h.beta2),
          S(1 - h.beta2),
          S(now.inv_root_bias_correction2),
          S(h.eps),
          S(now.lr * now.inv_bias_correction1),
          S(decay),
          S(decay * h.wd_ratio),
          S(h.delta),
          S(h.maximize ? -factor : factor),
          h.nesterov != 0,
          h.project_buffer != 0};
}

template <class T, class S>
ADAMP_FN T moving_average(T average, T value, S beta, S gain) {
  return beta * average + gain * value;
}

// m <- beta1*m + (1 - beta1)*g, v <- beta2*v + (1 - beta2)*g^2,
// u = m / (sqrt(v)/sqrt(1 - beta2^t) + eps); with nesterov the numerator looks one step ahead.
struct AdamP {
  static constexpr Method kMethod = Method::kAdamP;
  static constexpr const char* kName = "adamp";
  // Keys of the state; one or two.
  static constexpr const char* kMoments[] = {"exp_avg", "exp_avg_sq"};
  // Whether the state has a `step`, which corrections of the bias need.
  static constexpr bool kCountsSteps = true;
  // Whether u is the first moment itself, as it is stored. The projection of u then is one of the
  // moment, too, where the option project_buffer says so.
  static constexpr bool kUpdateIsMoment = false;

  // Of a method that counts; `step`: the count after the step.
  static ADAMP_FN void correct_bias(const Hyper& h, double step, StepNumbers& now) {
    now.inv_bias_correction1 = 1 / (1 - power(h.beta1, step));
    now.inv_root_bias_correction2 = 1 / square_root(1 - power(h.beta2, step));
  }

  template <class T, class S>
  static ADAMP_FN T moment1(T m, T g, const Scalars<S>& h) {
    return moving_average(m, g, h.beta1, h.one_minus_beta1);
  }
  template <class T, class S>
  static ADAMP_FN T moment2(T v, T g, const Scalars<S>& h) {
    return moving_average(v, g * g, h.beta2, h.one_minus_beta2);
  }
  template <class T, class S>
  static ADAMP_FN T perturb(T m, T v, T g, const Scalars<S>& h) {
    const T numerator = h.nesterov ? moving_average(m, g, h.beta1, h.one_minus_beta1) : m;
    return numerator / (square_root(v) * h.inv_root_bias_correction2 + h.eps);
  }
};

// b <- momentum*b + (1 - dampening)*g, u = b; with nesterov u = g + momentum*b.
struct SGDP {
  static constexpr Method kMethod = Method::kSGDP;
  static constexpr const char* kName = "sgdp";
  static constexpr const char* kMoments[] = {"momentum"};
  static constexpr bool kCountsSteps = false;
  static constexpr bool kUpdateIsMoment = true;

  template <class T, class S>
  static ADAMP_FN T moment1(T b, T g, const Scalars<S>& h) {
    return moving_average(b, g, h.beta1, h.one_minus_beta1);
  }
  template <class T, class S>
  static ADAMP_FN T moment2(T, T, const Scalars<S>&) = delete;
  template <class T, class S>
  static ADAMP_FN T perturb(T b, T, T g, const Scalars<S>& h) {
    return h.nesterov ? moving_average(b, g, h.beta1, S(1)) : b;
  }
};

template <class M>
constexpr bool kTwoMoments = sizeof(M::kMoments) / sizeof(*M::kMoments) == 2;

// Whether the projected u becomes the moment that the next step starts from.
template <class M, class S>
ADAMP_FN bool projects_buffer(const Scalars<S>& h) {
  return M::kUpdateIsMoment && h.project_buffer && !h.nesterov;
}

// body(AdamP()) or body(SGDP()): from a method known when the program runs to its type.
template <class Body>
decltype(auto) for_method(Method method, const Body& body) {
  switch (method) {
    case Method::kAdamP:
      return body(AdamP());
    case Method::kSGDP:
      return body(SGDP());
  }
  throw std::invalid_argument("adamp_fused: an unknown method");
}

}  // namespace adamp
