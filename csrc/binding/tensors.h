// What the plan has to know of a tensor.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "../core/params.h"

namespace adamp {

// The option `projection` of a parameter's group, for this parameter.
Projection projection_of(const std::string& option, const c10::TensorImpl& param);

// Whether a gradient can be walked beside its parameter, at the parameter's own offsets.
bool fits(const at::Tensor& grad, const c10::TensorImpl& param);

// Shape and type of a parameter; no addresses.
TensorInfo info_of(const c10::TensorImpl& param, Projection projection);

}  // namespace adamp
