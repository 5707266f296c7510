// The mathematics of AdamP and SGDP in C++ and CUDA, once for every kernel.
//
// Source: Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
// Weights", ICLR 2021, with the constants of the official package. adamp_fused/_formulas.py states
// the same lines for Python.
//
// T is a scalar or a vector of lanes, S the scalar type of the arithmetic (float or double).
// Nothing here knows of memory, threads or tensors; no torch header, no CUDA header.
//
// Symbols: p weight, g gradient, m and v the moments, b the momentum buffer, u the raw update
// before projection; per row pp = sum p^2, gg = sum g^2, pg = sum p*g, pu = sum p*u.
#pragma once

#include <math.h>

#include "params.h"

#if defined(__CUDACC__)
#define ADAMP_FN __host__ __device__ __forceinline__
#else
#define ADAMP_FN inline __attribute__((always_inline))
#endif

namespace adamp {

// The options of a group at one step count, in the type of the arithmetic.
template <class S>
struct Scalars {
  S decay1, gain1;  // first moment:  m <- decay1*m + gain1*g   (SGDP: momentum, 1 - dampening)
  S decay2, gain2;  // second moment: v <- decay2*v + gain2*g^2
  S inv_root_bias_correction2;
  S eps;
  S step_size;               // lr / bias_correction1
  S decay, decay_projected;  // lr*weight_decay, and the same times wd_ratio
  S delta;
  S sign;                            // of the gradient: -1 to maximize
  int32_t nesterov, project_buffer;  // no bool: its padding would take a register of the kernels
};

template <class S>
struct RowSums {
  S pp, gg, pg, pu;
};

// One row's update: p <- p - (shrink*p + step_size*u), and where the buffer is projected,
// b <- u - radial*p; see apply_update and radial_part for weights that are infinite.
template <class S>
struct RowUpdate {
  S shrink, radial;
};

template <class S>
ADAMP_FN Scalars<S> make_scalars(const Hyper& h, double lr) {
  const double decay = lr * h.weight_decay * h.decay_gain;
  return {S(h.decay1),
          S(h.gain1),
          S(h.decay2),
          S(h.gain2),
          S(h.inv_root_bias_correction2),
          S(h.eps),
          S(lr * h.inv_bias_correction1),
          S(decay),
          S(decay * h.wd_ratio),
          S(h.delta),
          h.maximize ? S(-1) : S(1),
          h.nesterov != 0,
          h.project_buffer != 0};
}

// ---- per element
// ------------------------------------------------------------------------------------

template <class T, class S>
ADAMP_FN T moving_average(T average, T value, S decay, S gain) {
  return decay * average + gain * value;
}

// u = m / (sqrt(v)/sqrt(1 - beta2^t) + eps); with nesterov the numerator looks one step ahead.
template <class T, class S>
ADAMP_FN T adam_perturb(T m, T root_v, T g, const Scalars<S>& h) {
  const T numerator = h.nesterov ? moving_average(m, g, h.decay1, h.gain1) : m;
  return numerator / (root_v * h.inv_root_bias_correction2 + h.eps);
}

template <class T, class S>
ADAMP_FN T sgd_perturb(T b, T g, const Scalars<S>& h) {
  return h.nesterov ? moving_average(b, g, h.decay1, S(1)) : b;
}

// Whether x, or every lane of it, is finite; vec.h says it of vectors.
template <class T>
struct Finite {
  static ADAMP_FN bool all(T x) { return x - x == T(0); }
};

// The part of u along p. A weight that is not finite has none: radial is 0 where the norm of a row
// is infinite, and 0*inf would be NaN.
template <class T, class S>
ADAMP_FN T radial_part(T p, S radial) {
  return p - p == T{} ? radial * p : T{};
}

// What all outcomes end in: p - (shrink*p + step_size*u).
//
// Where that is not finite it is computed in the order of torch.optim and of the official package:
// an infinite weight (a masked bias, or one that overflowed) stays infinite, which the first form
// would make NaN, as inf - inf or 0*inf. In that order alone 1 - decay would round a small decay
// away, and the projection with it. S may be a vector as T is: each lane of a row of its own.
template <class T, class S>
ADAMP_FN T apply_update(T p, T u, RowUpdate<S> row, const Scalars<S>& h) {
  const T p_new = p - (row.shrink * p + h.step_size * u);
  if (__builtin_expect(Finite<T>::all(p_new), 1)) return p_new;
  const S decay = row.radial != 0 ? h.decay_projected : row.shrink;
  const T in_order = (1 - decay) * p - h.step_size * (u - radial_part(p, row.radial));
  return p_new - p_new == T{} ? p_new : in_order;
}

// The weight before apply_update, to 1-2 ulp where |shrink| <= 1/2. One that overflowed stays
// infinite, where step_size*u is infinite too.
template <class T, class S>
ADAMP_FN T recover_weight(T p_new, T u, S shrink, S step_size) {
  const T p = (p_new + step_size * u) * (S(1) / (S(1) - shrink));
  return p == p ? p : p_new;
}

ADAMP_FN float square_root(float x) { return sqrtf(x); }
ADAMP_FN double square_root(double x) { return sqrt(x); }

// ---- per row
// ----------------------------------------------------------------------------------------

template <class S>
ADAMP_FN void add_to(RowSums<S>& total, const RowSums<S>& part) {
  total.pp += part.pp;
  total.gg += part.gg;
  total.pg += part.pg;
  total.pu += part.pu;
}

// What |cos(p, g)| of rows of this length must be below.
template <class S>
ADAMP_FN S cosine_bound(S row_length, const Scalars<S>& h) {
  return h.delta / square_root(row_length);
}

// |cos(p, g)| < bound, each norm clamped at eps; a NaN never passes.
template <class S>
ADAMP_FN bool cosine_below(const RowSums<S>& s, S bound, S eps) {
  const S norm_p = square_root(s.pp), norm_g = square_root(s.gg);
  const S limit = bound * (norm_p > eps ? norm_p : eps) * (norm_g > eps ? norm_g : eps);
  return s.pg < limit && -s.pg < limit;
}

template <class S>
ADAMP_FN RowUpdate<S> plain_update(const Scalars<S>& h) {
  return {h.decay, S(0)};
}

// The update of a row whose own (channel) or whose tensor's (layer) sums are pp and pu. Nothing is
// projected along an infinite norm: the finite weights of the row would become NaN.
template <class S>
ADAMP_FN RowUpdate<S> projected_update(S pp, S pu, const Scalars<S>& h) {
  const S norm = square_root(pp) + h.eps;
  // Chosen before the division, so that a loop over rows has no branch.
  const S along = norm == S(INFINITY) ? S(0) : pu;
  const S radial = along / (norm * norm);
  return {h.decay_projected - h.step_size * radial, radial};
}

// Whether an update may be made before its tensor is decided: recover_weight must be able to undo
// it, so that the weight may not have become infinite. False for a NaN.
template <class S>
ADAMP_FN bool can_undo(const RowUpdate<S>& update, const Scalars<S>& h) {
  return update.shrink <= S(0.5) && -update.shrink <= S(0.5) && h.step_size <= S(1e30);
}

}  // namespace adamp
