// What is known on the device alone: whether a step is made at all (GradScaler), what gradients are
// multiplied by (their scale, clipping), how many steps a tensor has made, and the learning rate
// and the weight decay where they are tensors.
//
// Read by whoever makes the step; no host waits for any of it.
#pragma once

#include "arithmetic.h"
#include "params.h"

namespace adamp {

ADAMP_FN bool is_skipped(const Control& control) {
  return control.found_inf != nullptr && *control.found_inf != 0;
}

// What gradients are multiplied by before anything else is done to them; the inverse of the scale
// is rounded as GradScaler.unscale_ rounds it.
ADAMP_FN double grad_factor(const Control& control) {
  const double unscale =
      control.grad_scale == nullptr ? 1 : static_cast<float>(1 / double(*control.grad_scale));
  return control.clip == nullptr ? unscale : unscale * *control.clip;
}

// What brings gradients of this norm to `max_norm`, as torch.nn.utils.clip_grad_norm_ does; of an
// infinite norm 0, of a NaN a NaN.
ADAMP_FN double clip_coefficient(double norm, double max_norm) {
  const double coefficient = max_norm / (norm + 1e-6);
  return coefficient > 1 ? 1 : coefficient;
}

// How many steps a tensor has made, where the device counts them.
ADAMP_FN double count_of(const TensorInfo& info) {
  return info.count_dtype == DType::kFloat64 ? *static_cast<const double*>(info.count)
                                             : *static_cast<const float*>(info.count);
}

// One thread, once for each step that was made.
ADAMP_FN void advance_count(const TensorInfo& info) {
  if (info.count_dtype == DType::kFloat64) {
    *static_cast<double*>(info.count) += 1;
  } else {
    *static_cast<float*>(info.count) += 1;
  }
}

// The numbers of the step of one tensor, those read that the device keeps.
template <class M>
ADAMP_FN StepNumbers numbers_of(const Hyper& h, const TensorInfo& info) {
  StepNumbers now = h.numbers;
  if (h.device_lr != nullptr) now.lr = *h.device_lr;
  if (h.device_weight_decay != nullptr) now.weight_decay = *h.device_weight_decay;
  if constexpr (M::kCountsSteps) {
    if (info.count != nullptr) M::correct_bias(h, count_of(info) + 1, now);
  }
  return now;
}

}  // namespace adamp
