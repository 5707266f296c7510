// The test by squares against the test itself: random rows of all sizes, on both sides of the bound
// and as close to it as numbers get, and numbers that are none.
#include "../../../csrc/cpu/cosine.h"

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

int main() {
  using namespace adamp;
  std::mt19937_64 random(1);
  const auto between = [&](double a, double b) {
    return std::uniform_real_distribution<double>(a, b)(random);
  };
  const auto power = [&](double least, double most) {
    return std::pow(10.0, between(least, most));
  };
  const double infinity = std::numeric_limits<double>::infinity();
  const double odd[] = {0.0, -0.0, 5e-324, 1e-160, 1e160, 1e308, infinity, std::nan("")};

  long passed = 0, failed = 0, wrong = 0;
  const auto check = [&](const RowSums<double>& sums, double bound, double eps) {
    const bool passes = cosine_below(sums, bound, eps);
    ++(passes ? passed : failed);
    if (cosine_below_by_squares(sums, bound, eps) == passes) return;
    ++wrong;
    std::printf("pp %.17g gg %.17g pg %.17g bound %.17g eps %.17g: should be %d\n", sums.pp,
                sums.gg, sums.pg, bound, eps, passes);
  };
  const double orders[] = {6, 30, 160};
  for (int i = 0; i < 3000000 && wrong < 10; ++i) {
    const double order = orders[i % 3], bound = power(-4, 0), eps = power(-12, 1);
    RowSums<double> sums = {power(-order, order), power(-order, order), 0, 0};
    if (i % 5 == 0) sums.pp = eps * eps * power(-1, 1);
    if (i % 7 == 0) sums.gg = eps * eps * power(-1, 1);
    // As a factor of the limit: 1 -+ 1e-17 to 1, or anything.
    const double near = 1 + (i % 2 ? 1 : -1) * power(-17, 0), factor = i % 4 ? near : power(-3, 3);
    sums.pg = bound * std::sqrt(sums.pp) * std::sqrt(sums.gg) * factor * (i % 11 ? 1 : -1);
    check(sums, bound, eps);
  }
  for (const double pp : odd) {
    for (const double gg : odd) {
      for (const double pg : odd) {
        for (const double bound : {0.0, 0.1, 1.0}) {
          for (const double eps : {0.0, 1e-8}) check({pp, gg, pg, 0}, bound, eps);
        }
      }
    }
  }
  std::printf("%ld passed, %ld did not, %ld wrong\n", passed, failed, wrong);
  return wrong > 0 || passed < 900000 || failed < 900000;
}
