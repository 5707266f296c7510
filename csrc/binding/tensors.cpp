#include "tensors.h"

#include <stdexcept>

#include "guards.h"

namespace adamp {

namespace {

DType dtype_of(const c10::TensorImpl& tensor) {
  switch (c10::typeMetaToScalarType(tensor.dtype())) {
    case at::kFloat:
      return DType::kFloat32;
    case at::kDouble:
      return DType::kFloat64;
    case at::kBFloat16:
      return DType::kBFloat16;
    case at::kHalf:
      return DType::kFloat16;
    default:
      throw std::invalid_argument("a plan takes float32, float64, bfloat16 or float16");
  }
}

}  // namespace

Projection projection_of(const std::string& option, const c10::TensorImpl& param) {
  if (param.dim() < 2 || option == "off") return Projection::kOff;
  if (option == "channel") return Projection::kChannel;
  if (option == "layer") return Projection::kLayer;
  if (option == "auto") return Projection::kAuto;
  throw std::invalid_argument("adamp_fused: there is no projection named '" + option + "'");
}

bool fits(const at::Tensor& grad, const c10::TensorImpl& param) {
  if (grad.layout() != at::kStrided || grad.is_neg() || grad.dtype() != param.dtype() ||
      grad.device() != param.device() || !equal(grad.sizes(), param.sizes())) {
    return false;
  }
  if (equal(grad.strides(), param.strides()) || param.numel() == 0) return true;
  for (int64_t d = 0; d < param.dim(); ++d) {
    if (param.size(d) != 1 && grad.stride(d) != param.stride(d)) return false;
  }
  return true;
}

TensorInfo info_of(const c10::TensorImpl& param, Projection projection) {
  TensorInfo info = {};
  // Without a test of rows a tensor is one run of elements.
  info.rows = projection == Projection::kOff ? 1 : param.size(0);
  info.cols = info.rows == 0 ? 0 : param.numel() / info.rows;
  info.dtype = dtype_of(param);
  info.projection = projection;
  info.count_dtype = DType::kFloat32;
  return info;
}

}  // namespace adamp
