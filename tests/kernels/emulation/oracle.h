// One step written from the equations, element by element in double: what the kernels must come to.
#pragma once

#include <cmath>
#include <vector>

#include "../../../csrc/core/params.h"
#include "storage.h"

namespace emulation {

// A tensor's weights, moments and gradient as doubles.
struct Values {
  std::vector<double> p, m, v, g;
  std::vector<double> unprojected;  // the first moment, before its projection if there is one
};

struct Sums {
  double pp = 0, gg = 0, pg = 0, pu = 0;
};

inline bool test_passes(const Sums& s, double length, const adamp::Hyper& h) {
  return std::fabs(s.pg) < h.delta / std::sqrt(length) * std::fmax(std::sqrt(s.pp), h.eps) *
                               std::fmax(std::sqrt(s.gg), h.eps);
}

// Moves `x` by one step; returns the outcome.
inline adamp::View oracle_step(Values& x, int64_t rows, int64_t cols, adamp::Method method,
                               adamp::DType dtype, adamp::Projection projection,
                               const adamp::Hyper& h) {
  using adamp::Projection;
  using adamp::View;
  const bool adam = method == adamp::Method::kAdamP;
  std::vector<double> u(x.p.size());
  for (size_t i = 0; i < u.size(); ++i) {
    const double g = h.maximize ? -x.g[i] : x.g[i];
    x.m[i] = round_to(dtype, h.beta1 * x.m[i] + h.one_minus_beta1 * g);
    double numerator = x.m[i];
    if (h.nesterov) numerator = h.beta1 * x.m[i] + (adam ? h.one_minus_beta1 : 1) * g;
    if (adam) {
      x.v[i] = round_to(dtype, h.beta2 * x.v[i] + (1 - h.beta2) * g * g);
      numerator /= std::sqrt(x.v[i]) * h.numbers.inv_root_bias_correction2 + h.eps;
    }
    u[i] = numerator;
  }
  x.unprojected = x.m;
  std::vector<Sums> of_row(rows);
  Sums all;
  for (int64_t i = 0; i < rows * cols; ++i) {
    const double p = x.p[i], g = h.maximize ? -x.g[i] : x.g[i];
    for (Sums* sums : {&of_row[i / cols], &all}) {
      sums->pp += p * p;
      sums->gg += g * g;
      sums->pg += p * g;
      sums->pu += p * u[i];
    }
  }
  View view = projection == Projection::kChannel ? View::kChannel
              : projection == Projection::kLayer ? View::kLayer
                                                 : View::kNone;
  if (projection == Projection::kAuto) {
    view = View::kChannel;
    for (const Sums& sums : of_row) {
      if (!test_passes(sums, static_cast<double>(cols), h)) view = View::kNone;
    }
    if (view == View::kNone && test_passes(all, static_cast<double>(rows * cols), h))
      view = View::kLayer;
  }
  const double step_size = h.numbers.lr * h.numbers.inv_bias_correction1;
  for (int64_t i = 0; i < rows * cols; ++i) {
    double decay = h.numbers.lr * h.numbers.weight_decay * h.decay_factor;
    if (view != View::kNone) {
      const Sums& sums = view == View::kChannel ? of_row[i / cols] : all;
      // Nothing lies along weights of an infinite norm.
      if (std::isfinite(sums.pp))
        u[i] -= x.p[i] * sums.pu / std::pow(std::sqrt(sums.pp) + h.eps, 2);
      decay *= h.wd_ratio;
    }
    x.p[i] = (1 - decay) * x.p[i] - step_size * u[i];
    if (!adam && !h.nesterov && h.project_buffer) x.m[i] = round_to(dtype, u[i]);
  }
  return view;
}

}  // namespace emulation
