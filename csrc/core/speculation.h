// What is done to rows before their tensor is decided, so that one pass over memory is enough.
//
// The outcome is predicted: it is fixed by the option `projection`, or it is the tensor's last
// outcome (the state `view`), which hardly ever changes. Where that turns out wrong, or nothing was
// predicted, a second pass follows once the tensor is decided: the fix-up pass.
#pragma once

#include "projection.h"

namespace adamp {

enum class Speculation : int32_t {
  kNone,         // nothing: the rows wait for the decision
  kAllRows,      // plain update, in the same sweep as the sums
  kChannelRows,  // projected update as soon as the row's own sums are known
};

// `one_tile`: the tensor is decided while it is on chip, nothing has to be predicted.
// `rows_are_split`: no single tile knows a row's sums. `last`: the state `view`, where it is kept.
template <class S>
ADAMP_FN Speculation speculate(Projection projection, DType dtype, bool one_tile,
                               bool rows_are_split, View last, const Scalars<S>& h) {
  switch (projection) {
    case Projection::kOff:
      return Speculation::kAllRows;
    case Projection::kLayer:
      return Speculation::kNone;
    case Projection::kChannel:
      return rows_are_split ? Speculation::kNone : Speculation::kChannelRows;
    default:
      break;
  }
  // An update rounded to half precision cannot be rolled back.
  if (one_tile || size_of(dtype) < 4) return Speculation::kNone;
  if (last == View::kChannel && !rows_are_split) return Speculation::kChannelRows;
  if (last == View::kNone && can_roll_back(plain_update(h), h)) return Speculation::kAllRows;
  return Speculation::kNone;
}

// Whether what was done on speculation is what the outcome requires.
ADAMP_FN bool prediction_holds(Speculation speculation, View outcome) {
  return (speculation == Speculation::kAllRows && outcome == View::kNone) ||
         (speculation == Speculation::kChannelRows && outcome == View::kChannel);
}

// Whether a row is updated on speculation, given that its own channel test passes or not.
template <class S>
ADAMP_FN bool updates_speculatively(Speculation speculation, Projection projection, bool passes,
                                    const RowUpdate<S>& channel, const Scalars<S>& h) {
  return speculation == Speculation::kAllRows ||
         (speculation == Speculation::kChannelRows &&
          (projection == Projection::kChannel || (passes && can_roll_back(channel, h))));
}

}  // namespace adamp
