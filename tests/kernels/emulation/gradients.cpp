#include "gradients.h"

#include <algorithm>
#include <cmath>

namespace emulation {
namespace {

using adamp::Hyper;
using adamp::View;

// Outcomes that follow one another in every way; a tensor starts at a place of its own.
constexpr View kScript[] = {View::kChannel, View::kChannel, View::kNone,    View::kNone,
                            View::kLayer,   View::kLayer,   View::kChannel, View::kLayer,
                            View::kNone,    View::kChannel, View::kNone};
constexpr size_t kScriptLength = sizeof kScript / sizeof *kScript;

// Of the bound that a test compares with: passed, or failed, by so little that another row length,
// eps or delta would decide otherwise.
constexpr double kPass = 0.7, kFail = 1.4;

struct Row {
  double pp = 0, gg = 0;  // of the weights, and of the gradient across them
};

// The |sum p*g| at which a test begins to fail.
double limit(const Row& row, int64_t length, const Hyper& h) {
  return h.delta / std::sqrt(static_cast<double>(length)) * std::max(std::sqrt(row.pp), h.eps) *
         std::max(std::sqrt(row.gg), h.eps);
}

// Neither short nor zero, in its weights (see world.cpp) or its gradient.
bool is_ordinary(int64_t row) {
  return row % 64 != 3 && row % 11 != 7 && row % 7 != 2 && row % 7 != 5;
}

}  // namespace

double normal(Random& random) {
  double sum = 0;  // of twelve uniform draws: near enough
  for (int i = 0; i < 12; ++i) sum += random.next() / 4294967296.0;
  return sum - 6;
}

// Noise across the weights of each row, and along them:
// - channel: so much that each row just passes;
// - layer: pairs of rows, all or a single one, one along and one against its weights, so that both
//   just fail and cancel in the tensor's sum; the sum just passes;
// - none: as layer, but the sum just fails; or much of every row.
void draw_gradient(Array& gradient, const Array& weights, const TensorSpec& spec, size_t index,
                   int step, const Hyper& h) {
  const View wanted = kScript[(step + index) % kScriptLength];
  const bool few = (step + index) % 2 == 0;
  const double sign = (step + index) % 4 < 2 ? 1 : -1;
  Random random(1000 * index + step + 1);
  const int64_t rows = spec.rows, cols = spec.cols;
  // The last pair that can fail: one that is lost changes the outcome.
  int64_t only = rows / 2 - 1;
  while (only > 0 && !(is_ordinary(2 * only) && is_ordinary(2 * only + 1))) --only;
  std::vector<double> p(rows * cols), g(rows * cols);
  std::vector<Row> all(rows);
  Row total;
  double sharing = 0;  // total.pp without the rows that have no share of what lies along all
  // Adds to the gradient of a row, so that its sum p*g grows by `pg`.
  const auto add_along = [&](int64_t row, double pg) {
    if (all[row].pp == 0) return;
    for (int64_t i = row * cols; i < (row + 1) * cols; ++i) g[i] += pg / all[row].pp * p[i];
  };
  // Some rows have a zero gradient, and some a short one; not in float16, where its square has few
  // bits.
  const double little = spec.dtype == adamp::DType::kFloat16 ? 1 : 1e-2;
  const auto scale = [&](int64_t row) {
    return row % 7 == 5 && few ? 0 : row % 7 == 2 ? little : 1;
  };
  for (int64_t row = 0; row < rows; ++row) {
    double pg = 0;
    for (int64_t i = row * cols; i < (row + 1) * cols; ++i) {
      p[i] = std::isfinite(weights.get(i)) ? weights.get(i) : 0;
      g[i] = scale(row) * normal(random);
      all[row].pp += p[i] * p[i];
      pg += p[i] * g[i];
    }
    add_along(row, -pg);
    if (cols == 1) g[row] = 0;  // exactly
    for (int64_t i = row * cols; i < (row + 1) * cols; ++i) all[row].gg += g[i] * g[i];
    total.gg += all[row].gg;
    total.pp += all[row].pp;
    if (scale(row) == 1) sharing += all[row].pp;
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t other = row ^ 1;
    const double direction = row % 2 == 0 ? sign : -sign;
    if (scale(row) == 0) continue;
    if (wanted == View::kChannel) {
      add_along(row, direction * kPass * limit(all[row], cols, h));
    } else if (wanted == View::kNone && !few) {
      add_along(row, sign * 0.7 * std::sqrt(static_cast<double>(cols) * all[row].pp));
    } else {
      if ((!few || row / 2 == only) && other < rows && scale(other) != 0) {
        const double mine = limit(all[row], cols, h), its = limit(all[other], cols, h);
        // Else the gradient of the shorter row would be huge.
        const bool alike = std::max(mine, its) < 30 * std::min(mine, its);
        if (alike) add_along(row, direction * kFail * std::max(mine, its));
      }
      const double of_total =
          (wanted == View::kLayer ? kPass : kFail) * limit(total, rows * cols, h);
      if (scale(row) == 1) add_along(row, sign * of_total * all[row].pp / sharing);
    }
  }
  for (int64_t i = 0; i < rows * cols; ++i) gradient.set(i, g[i]);
  if (step == spec.nan_in) gradient.set(rows * cols / 2, NAN);
}

}  // namespace emulation
