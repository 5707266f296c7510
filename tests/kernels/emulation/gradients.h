// Gradients that lead to each outcome.
#pragma once

#include "cases.h"
#include "schedule.h"
#include "storage.h"

namespace emulation {

// A standard normal number, nearly.
double normal(Random& random);

// Fills the gradient of tensor number `index` so that it comes to the outcome that is its turn.
void draw_gradient(Array& gradient, const Array& weights, const TensorSpec& spec, size_t index,
                   int step, const adamp::Hyper& h);

}  // namespace emulation
