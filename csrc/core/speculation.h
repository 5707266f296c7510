// What is done to rows before their tensor is decided, so that memory is visited once.
//
// The outcome is foreseen: it is fixed by the option `projection`, or it is the tensor's last
// outcome (the state `view`), which hardly ever changes. Where that turns out wrong, or nothing was
// foreseen, a tensor is walked again once it is decided ("finished").
#pragma once

#include "projection.h"

namespace adamp {

enum class Early : int32_t {
  kNone,         // nothing: the rows wait for the decision
  kAllRows,      // plain update, in the same sweep as the sums
  kChannelRows,  // projected update as soon as the row's own sums are known
};

// `one_item`: the tensor is decided while it is on chip, nothing has to be foreseen.
// `rows_are_split`: no single item knows a row's sums. `last`: the state `view`, where it is kept.
template <class S>
ADAMP_FN Early foresee(Projection projection, DType dtype, bool one_item, bool rows_are_split,
                       View last, const Scalars<S>& h) {
  switch (projection) {
    case Projection::kOff:
      return Early::kAllRows;
    case Projection::kLayer:
      return Early::kNone;
    case Projection::kChannel:
      return rows_are_split ? Early::kNone : Early::kChannelRows;
    default:
      break;
  }
  // An update rounded to half precision cannot be taken back.
  if (one_item || size_of(dtype) < 4) return Early::kNone;
  if (last == View::kChannel && !rows_are_split) return Early::kChannelRows;
  if (last == View::kNone && can_roll_back(plain_update(h), h)) return Early::kAllRows;
  return Early::kNone;
}

// Whether what was done early is what the outcome asks for.
ADAMP_FN bool foreseen(Early early, View outcome) {
  return (early == Early::kAllRows && outcome == View::kNone) ||
         (early == Early::kChannelRows && outcome == View::kChannel);
}

// Whether a row is updated early, given that its own channel test passes or not.
template <class S>
ADAMP_FN bool updates_early(Early early, Projection projection, bool passes,
                            const RowUpdate<S>& channel, const Scalars<S>& h) {
  return early == Early::kAllRows ||
         (early == Early::kChannelRows &&
          (projection == Projection::kChannel || (passes && can_roll_back(channel, h))));
}

}  // namespace adamp
