// The cosine test of a row, nearly always without its two square roots.
#pragma once

#include "../core/stats.h"

namespace adamp {

// The squares of both norms, each clamped at eps.
struct SquaredNorms {
  double pp, gg;
};
ADAMP_FN SquaredNorms squared_norms(const RowSums<double>& s, double eps) {
  const double least = eps * eps;
  return {s.pp > least ? s.pp : least, s.gg > least ? s.gg : least};
}

// The square of the test's limit.
ADAMP_FN double squared_limit(const RowSums<double>& s, double bound, double eps) {
  const SquaredNorms norms = squared_norms(s, eps);
  return bound * bound * norms.pp * norms.gg;
}

// Beyond, the square may be off by more than a thousandth.
ADAMP_FN bool is_precise(double limit) { return (limit > 1e-300) & (limit < 1e300); }

// A square of the cosine that is so much smaller than its limit is so for certain.
constexpr double kSurelyBelow = 0.999;

// Whether a row passes for certain. Without branches: see thin_rows.h.
ADAMP_FN bool surely_below(const RowSums<double>& s, double bound, double eps) {
  const double limit = squared_limit(s, bound, eps);
  return is_precise(limit) & (s.pg * s.pg < kSurelyBelow * limit);
}

// The larger of `squared` and the square of abs_cosine(). It divides where that of the row is: of
// many rows few are larger than all before.
ADAMP_FN double larger_squared_cosine(double squared, const RowSums<double>& s, double eps) {
  const SquaredNorms norms = squared_norms(s, eps);
  const double product = norms.pp * norms.gg;
  if (is_precise(product)) {
    if (s.pg * s.pg <= squared * product) return squared;
    return larger(squared, s.pg * s.pg / product);
  }
  const double cosine = abs_cosine(s, eps);
  return larger(squared, cosine * cosine);
}

// cosine_below(), to the bit: told by the squares where these differ by more than their rounding.
ADAMP_FN bool cosine_below_by_squares(const RowSums<double>& s, double bound, double eps) {
  const double squared = s.pg * s.pg, limit = squared_limit(s, bound, eps);
  if (is_precise(limit)) {
    if (squared < kSurelyBelow * limit) return true;
    if (squared > 1.001 * limit) return false;
  }
  return cosine_below(s, bound, eps);
}

}  // namespace adamp
