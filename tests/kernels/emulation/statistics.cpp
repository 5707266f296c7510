#include "statistics.h"

#include <cmath>

namespace emulation {
namespace {

// Of sums, relative to what they would be if nothing cancelled: `exact` where they are of weights
// and gradients alone, which come as they are stored; an update follows from moments that may be
// the neighbours of what the oracle rounds them to.
struct Tolerance {
  double exact, of_update;
};

Tolerance tolerance(adamp::DType dtype) {
  switch (dtype) {
    case adamp::DType::kFloat64:
      return {1e-12, 1e-11};
    case adamp::DType::kFloat32:
      return {1e-5, 5e-5};
    case adamp::DType::kFloat16:
      return {1e-5, 2e-3};
    default:
      return {1e-5, 1e-2};
  }
}

}  // namespace

std::string check_stats(const adamp::TensorStats& got, const adamp::TensorStats& want,
                        adamp::DType dtype) {
  const Tolerance bound = tolerance(dtype);
  std::string wrong;
  const auto compare = [&](const char* name, double is, double should_be, double allowed) {
    const bool equal = is == should_be || (std::isnan(is) && std::isnan(should_be));
    if (equal || std::fabs(is - should_be) <= allowed || !wrong.empty()) return;
    wrong = std::string("statistics: ") + name + " is " + std::to_string(is) + ", want " +
            std::to_string(should_be);
  };
  for (int view = 0; view < 3; ++view) {
    compare("the count of an outcome", got.outcomes[view], want.outcomes[view], 0);
  }
  compare("outcome", got.outcome, want.outcome, 0);
  const double of_u = bound.of_update, pu = std::sqrt(want.pp * want.uu);
  compare("max_cosine", got.max_cosine, want.max_cosine, bound.exact * (1 + want.max_cosine));
  compare("bound", got.bound, want.bound, 1e-6 * want.bound);
  compare("pp", got.pp, want.pp, bound.exact * want.pp);
  compare("gg", got.gg, want.gg, bound.exact * want.gg);
  compare("pu", got.pu, want.pu, of_u * pu);
  compare("uu", got.uu, want.uu, of_u * want.uu);
  compare("rp", got.rp, want.rp, of_u * pu);
  compare("ru", got.ru, want.ru, of_u * want.uu);
  compare("rr", got.rr, want.rr, of_u * want.uu);
  compare("lr", got.lr, want.lr, 0);
  compare("the correction of the bias", got.inv_bias_correction1, want.inv_bias_correction1,
          1e-12 * want.inv_bias_correction1);
  compare("decay", got.decay, want.decay, 1e-6 * std::fabs(want.decay));
  compare("first_pp", got.first_pp, want.first_pp, bound.exact * want.first_pp);
  return wrong;
}

}  // namespace emulation
