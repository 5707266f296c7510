#include "gradients.h"

#include <cmath>

namespace emulation {
namespace {

using adamp::View;

// Outcomes that follow one another in every way; a tensor starts at a place of its own.
constexpr View kScript[] = {View::kChannel, View::kChannel, View::kNone,    View::kNone,
                            View::kLayer,   View::kLayer,   View::kChannel, View::kLayer,
                            View::kNone,    View::kChannel, View::kNone};
constexpr size_t kScriptLength = sizeof kScript / sizeof *kScript;

}  // namespace

double normal(Random& random) {
  double sum = 0;  // of twelve uniform draws: near enough
  for (int i = 0; i < 12; ++i) sum += random.next() / 4294967296.0;
  return sum - 6;
}

// Across the weights of each row for `channel`; along those of some rows for `none`; along some and
// against others, so that the products cancel, for `layer`. Some: every one, or few of
// many, in turn.
void draw_gradient(Array& gradient, const Array& weights, const TensorSpec& spec, size_t index,
                   int step) {
  const View wanted = kScript[(step + index) % kScriptLength];
  const bool few = (step + index) % 2 == 0;
  Random random(1000 * index + step + 1);
  const int64_t rows = spec.rows, cols = spec.cols;
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<double> g(cols);
    double pp = 0, pg = 0;
    for (int64_t i = 0; i < cols; ++i) {
      const double p = weights.get(row * cols + i);
      g[i] = normal(random);
      pp += p * p;
      pg += p * g[i];
    }
    const double size = 0.7 * std::sqrt(static_cast<double>(cols) * pp);
    double along = 0;
    if (wanted == View::kNone && (!few || row % 4 == rows / 2 % 4)) along = size;
    // Pairs of neighbours, whatever the size of their weights.
    if (wanted == View::kLayer && (!few || row / 2 % 4 == 0) && row / 2 * 2 + 1 < rows) {
      along = row % 2 == 0 ? 1 : -1;
    }
    for (int64_t i = 0; i < cols; ++i) {
      const double p = weights.get(row * cols + i);
      gradient.set(row * cols + i, g[i] + (pp == 0 ? 0 : (along - pg) / pp * p));
    }
  }
}

}  // namespace emulation
