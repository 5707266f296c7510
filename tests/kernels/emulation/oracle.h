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

// |cos(p, g)|, as far as norms of at least eps go.
inline double cosine_of(const Sums& s, const adamp::Hyper& h) {
  return std::fabs(s.pg) / (std::fmax(std::sqrt(s.pp), h.eps) * std::fmax(std::sqrt(s.gg), h.eps));
}

// The larger one, or what is not a number.
inline double larger_of(double a, double b) { return std::isnan(a) || a > b ? a : b; }

// What is projected away of an element of weight p, in a row or tensor of these sums. Nothing lies
// along weights of an infinite norm.
inline double removed_from(double p, const Sums& s, const adamp::Hyper& h) {
  return std::isinf(s.pp) ? 0 : p * s.pu / std::pow(std::sqrt(s.pp) + h.eps, 2);
}

// What optimizer.stats() reads of a step, but for what follows from each element.
inline void begin_stats(adamp::TensorStats& stats, adamp::View view,
                        const std::vector<Sums>& of_row, const Sums& all, double cols,
                        adamp::Projection projection, const adamp::Hyper& h) {
  using adamp::Projection;
  const bool by_rows = projection == Projection::kAuto || projection == Projection::kChannel;
  const bool is_first = stats.outcomes[0] + stats.outcomes[1] + stats.outcomes[2] == 0;
  if (is_first) stats.first_pp = all.pp;
  stats.outcomes[static_cast<int>(view)] += 1;
  stats.outcome = static_cast<double>(view);
  stats.max_cosine = by_rows ? 0 : cosine_of(all, h);
  for (const Sums& sums : of_row) {
    if (by_rows) stats.max_cosine = larger_of(cosine_of(sums, h), stats.max_cosine);
  }
  const double numel = cols * static_cast<double>(of_row.size());
  stats.bound = h.delta / std::sqrt(by_rows ? cols : numel);
  stats.pp = all.pp;
  stats.gg = all.gg;
  stats.pu = all.pu;
  stats.uu = stats.rp = stats.ru = stats.rr = 0;
  stats.lr = h.numbers.lr;
  stats.inv_bias_correction1 = h.numbers.inv_bias_correction1;
  stats.decay = h.numbers.lr * h.numbers.weight_decay * h.decay_factor;
  if (view != adamp::View::kNone) stats.decay *= h.wd_ratio;
}

// What one element of weight p and update u adds, of which r is projected away.
inline void add_element(adamp::TensorStats& stats, double p, double u, double r) {
  stats.uu += u * u;
  // Of an infinite weight nothing is, and 0*inf would be no number.
  if (r == 0) return;
  stats.rp += r * p;
  stats.ru += r * u;
  stats.rr += r * r;
}

// Moves `x` by one step; returns the outcome. Adds the step to `stats`, if there are some.
inline adamp::View oracle_step(Values& x, int64_t rows, int64_t cols, adamp::Method method,
                               adamp::DType dtype, adamp::Projection projection,
                               const adamp::Hyper& h, adamp::TensorStats* stats = nullptr) {
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
  if (stats != nullptr) {
    begin_stats(*stats, view, of_row, all, static_cast<double>(cols), projection, h);
  }
  const double step_size = h.numbers.lr * h.numbers.inv_bias_correction1;
  for (int64_t i = 0; i < rows * cols; ++i) {
    double decay = h.numbers.lr * h.numbers.weight_decay * h.decay_factor;
    double removed = 0;
    if (view != View::kNone) {
      removed = removed_from(x.p[i], view == View::kChannel ? of_row[i / cols] : all, h);
      decay *= h.wd_ratio;
    }
    if (stats != nullptr) add_element(*stats, x.p[i], u[i], removed);
    u[i] -= removed;
    x.p[i] = (1 - decay) * x.p[i] - step_size * u[i];
    if (!adam && !h.nesterov && h.project_buffer) x.m[i] = round_to(dtype, u[i]);
  }
  return view;
}

}  // namespace emulation
