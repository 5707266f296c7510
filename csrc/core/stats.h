// What a step leaves of each tensor for optimizer.stats(), where it is asked for.
//
// The sums that the projection needs say nearly all of it. Beside them stand the square of the
// update and what the projection takes from it, k*p of each row (r for short; k is
// RowUpdate::radial). adamp_fused/_stats.py makes norms and angles of these sums, and states their
// formulas.
#pragma once

#include "projection.h"

namespace adamp {

// Of some rows, beside their RowSums. rp, ru, rr are what a channel-wise projection takes: the sums
// over rows of r*p, r*u and r*r.
template <class S>
struct StatSums {
  S uu;  // sum u^2
  S rp, ru, rr;
  S max_cosine;  // the largest |cos(p, g)| of a row
};

// A NaN stays.
template <class S>
ADAMP_FN S larger(S a, S b) {
  return b > a || b != b ? b : a;
}

template <class S>
ADAMP_FN void add_to(StatSums<S>& total, const StatSums<S>& part) {
  total.uu += part.uu;
  total.rp += part.rp;
  total.ru += part.ru;
  total.rr += part.rr;
  total.max_cosine = larger(total.max_cosine, part.max_cosine);
}

// |cos(p, g)|, each norm clamped at eps: what cosine_below() compares.
template <class S>
ADAMP_FN S abs_cosine(const RowSums<S>& s, S eps) {
  const S norm_p = square_root(s.pp), norm_g = square_root(s.gg);
  const S pg = s.pg < 0 ? -s.pg : s.pg;
  // One after the other: the product of two small norms may be 0.
  return pg / (norm_p > eps ? norm_p : eps) / (norm_g > eps ? norm_g : eps);
}

// What a projection with these sums takes from the update. `radial`: its coefficient k.
template <class S>
ADAMP_FN StatSums<S> removed_by(S radial, S pp, S pu) {
  if (radial == 0) return {};  // pp may be infinite
  return {S(0), radial * pp, radial * pu, radial * radial * pp, S(0)};
}

// What a channel-wise projection takes from a row.
template <class S>
ADAMP_FN StatSums<S> removed_from_row(const RowSums<S>& s, const Scalars<S>& h) {
  return removed_by(projected_update(s.pp, s.pu, h).radial, s.pp, s.pu);
}

// What one row adds to the StatSums of its tensor, but for uu.
template <class S>
ADAMP_FN StatSums<S> stats_of_row(const RowSums<S>& s, const Scalars<S>& h) {
  StatSums<S> stats = removed_from_row(s, h);
  stats.max_cosine = abs_cosine(s, h.eps);
  return stats;
}

// Whether each row of a tensor is measured by itself. Else the tensor is measured as one row: where
// no channel-wise projection is possible.
ADAMP_FN bool measures_rows(Projection projection) {
  return projection == Projection::kAuto || projection == Projection::kChannel;
}

// The step of a tensor, of whose rows these are the sums. `now`: the numbers of that step.
template <class S>
ADAMP_FN void note_stats(const TensorInfo& info, View outcome, const RowSums<S>& total,
                         const StatSums<S>& of_rows, const StepNumbers& now, const Scalars<S>& h) {
  StatSums<S> removed = of_rows;
  if (outcome != View::kChannel) {
    removed = removed_by(shared_update(outcome, total.pp, total.pu, h).radial, total.pp, total.pu);
  }
  const bool by_rows = measures_rows(info.projection);
  TensorStats& to = *info.stats;
  if (to.outcomes[0] + to.outcomes[1] + to.outcomes[2] == 0) to.first_pp = total.pp;
  to.outcomes[static_cast<int32_t>(outcome)] += 1;
  to.outcome = static_cast<int32_t>(outcome);
  to.max_cosine = by_rows ? of_rows.max_cosine : abs_cosine(total, h.eps);
  to.bound = cosine_bound(S(by_rows ? info.whole_cols() : info.whole_numel()), h);
  to.pp = total.pp;
  to.gg = total.gg;
  to.pu = total.pu;
  to.uu = of_rows.uu;
  to.rp = removed.rp;
  to.ru = removed.ru;
  to.rr = removed.rr;
  to.lr = now.lr;
  to.inv_bias_correction1 = now.inv_bias_correction1;
  to.decay = outcome == View::kNone ? h.decay : h.decay_projected;
}

}  // namespace adamp
