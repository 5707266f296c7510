// The cosine test of a row, nearly always without its two square roots.
#pragma once

#include "../formulas.h"

namespace adamp {

// cosine_below(), to the bit: told by the squares where these differ by more than their rounding.
// A norm below eps only raises the limit, so that what is below the limit without eps passes.
inline bool cosine_below_by_squares(const RowSums<double>& s, double bound, double eps) {
  const double squared = s.pg * s.pg, limit = bound * bound * s.pp * s.gg;
  if (limit > 1e-300 && limit < 1e300) {  // else it may be off by more than a thousandth
    if (squared < 0.999 * limit) return true;
    if (squared > 1.001 * limit && s.pp > eps * eps && s.gg > eps * eps) return false;
  }
  return cosine_below(s, bound, eps);
}

}  // namespace adamp
