// The plans that schedules are explored on. Small ones: what matters is which branch a tensor
// takes.
#pragma once

#include <string>
#include <vector>

#include "../../csrc/step_args.h"

namespace emulation {

using adamp::DType;
using adamp::Method;
using adamp::Projection;

struct TensorSpec {
  int64_t rows, cols;
  DType dtype = DType::kFloat32;
  Projection projection = Projection::kAuto;
  int offset = 0;       // of weight and moments, in elements from a boundary
  int grad_offset = 0;  // of the gradient
  int no_grad_in = -1;  // a step in which it has no gradient; -2: in none
};

struct Options {
  double lr = 1e-2, weight_decay = 0.1;
  bool nesterov = false, maximize = false, project_buffer = true, lr_on_device = false;
};

struct Case {
  std::string name;
  Method method;
  Options options;
  std::vector<TensorSpec> tensors;
  int steps = 4;
  int weight = 1;           // how often it is tried, against the others
  bool own_hypers = false;  // one for each tensor
};

const std::vector<Case>& cases();

}  // namespace emulation
