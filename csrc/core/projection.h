// The projection, once for every kernel: sums of a row, the cosine test, the decision on a tensor,
// the update that follows, and how to roll it back.
//
// Source: Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
// Weights", ICLR 2021, section 3, with the constants of the official package.
// adamp_fused/backends/formulas.py states the same lines for Python.
//
// Nothing here knows of memory, threads or tensors; no torch header, no CUDA header.
//
// T is a scalar or a vector of lanes, S the scalar type of the arithmetic (float or double).
// Symbols: p weight, g gradient, u the raw update before projection; per row pp = sum p^2,
// gg = sum g^2, pg = sum p*g, pu = sum p*u.
#pragma once

#include "methods.h"

namespace adamp {

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

// ---- the test
// ---------------------------------------------------------------------------------------

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

// ---- the decision
// -----------------------------------------------------------------------------------

// Whether what is done to a tensor depends on sums that no single tile has.
ADAMP_FN bool needs_decision(Projection projection, bool one_tile, bool rows_are_split) {
  return !one_tile && projection != Projection::kOff &&
         (projection != Projection::kChannel || rows_are_split);
}

// The outcome of a tensor: channel-wise where no row has failed the test, layer-wise where the
// tensor as one row passes it. `total`: the sums of all rows; `numel`: of the tensor.
template <class S>
ADAMP_FN View decide(Projection projection, int64_t failed_rows, const RowSums<S>& total, S numel,
                     const Scalars<S>& h) {
  if (projection == Projection::kChannel) return View::kChannel;
  if (projection == Projection::kLayer) return View::kLayer;
  if (projection == Projection::kOff) return View::kNone;
  if (failed_rows == 0) return View::kChannel;
  return cosine_below(total, cosine_bound(numel, h), h.eps) ? View::kLayer : View::kNone;
}

// ---- the update
// -------------------------------------------------------------------------------------

template <class S>
ADAMP_FN RowUpdate<S> plain_update(const Scalars<S>& h) {
  return {h.decay, S(0)};
}

// The update of a row whose own (channel-wise) or whose tensor's (layer-wise) sums are pp and pu.
// Nothing is projected along an infinite norm: the finite weights of the row would become NaN.
template <class S>
ADAMP_FN RowUpdate<S> projected_update(S pp, S pu, const Scalars<S>& h) {
  const S norm = square_root(pp) + h.eps;
  // Chosen before the division, so that a loop over rows has no branch.
  const S along = norm == S(INFINITY) ? S(0) : pu;
  const S radial = along / (norm * norm);
  return {h.decay_projected - h.step_size * radial, radial};
}

// The update that all rows of a tensor share, unless the outcome is channel-wise. pp, pu: the sums
// of the tensor.
template <class S>
ADAMP_FN RowUpdate<S> shared_update(View outcome, S pp, S pu, const Scalars<S>& h) {
  return outcome == View::kLayer ? projected_update(pp, pu, h) : plain_update(h);
}

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
  if (__builtin_expect(Math<T>::all_finite(p_new), 1)) return p_new;
  const S decay = row.radial != 0 ? h.decay_projected : row.shrink;
  const T in_order = (1 - decay) * p - h.step_size * (u - radial_part(p, row.radial));
  return p_new - p_new == T{} ? p_new : in_order;
}

// ---- roll-back
// --------------------------------------------------------------------------------------

// Whether an update may be made before its tensor is decided: recover_weight must be able to roll
// it back, so that the weight may not have become infinite. False for a NaN.
template <class S>
ADAMP_FN bool can_roll_back(const RowUpdate<S>& update, const Scalars<S>& h) {
  return update.shrink <= S(0.5) && -update.shrink <= S(0.5) && h.step_size <= S(1e30);
}

// The shrinkage and the radial part that roll `applied` back (recover_weight). Where the buffer was
// projected, the u computed from the stored moment is projected already, and the weight was changed
// by that u and by the decay alone.
template <class S>
ADAMP_FN RowUpdate<S> roll_back_of(const RowUpdate<S>& applied, bool buffer_was_projected,
                                   const Scalars<S>& h) {
  if (!buffer_was_projected) return {applied.shrink, S(0)};
  return {applied.radial != 0 ? h.decay_projected : applied.shrink, applied.radial};
}

// The weight before apply_update, to 1-2 ulp where |shrink| <= 1/2. One that overflowed stays
// infinite, where step_size*u is infinite too.
template <class T, class S>
ADAMP_FN T recover_weight(T p_new, T u, S shrink, S step_size) {
  const T p = (p_new + step_size * u) * (S(1) / (S(1) - shrink));
  return p == p ? p : p_new;
}

}  // namespace adamp
