// The step as an operator of torch, for compiled functions alone: adamp_fused::step_.
//
// Outside of torch.compile a step is a call of Plan (plan.h), which is faster. Here a step is given
// all its tensors anew; what was planned for the same ones is found again.
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>
#include <stdexcept>

#include "guards.h"
#include "options.h"
#include "step_plan.h"
#include "tensors.h"

namespace adamp {
namespace {

using OptionalTensors = c10::List<std::optional<at::Tensor>>;

// Numbers of a group in `numbers`, and flags in `flags`.
constexpr size_t kNumbers = 7, kFlags = 3;

// What was planned for tensors at their addresses.
struct Planned {
  Method method;
  bool clips;
  at::Device device;
  std::vector<TensorInfo> infos;
  std::unique_ptr<StepPlan> plan;

  bool serves(Method of, bool clipping, at::Device on, const std::vector<TensorInfo>& given) const {
    const auto same = [](const TensorInfo& a, const TensorInfo& b) {
      return a.param == b.param && a.moment1 == b.moment1 && a.moment2 == b.moment2 &&
             a.view == b.view && a.stats == b.stats && a.count == b.count && a.rows == b.rows &&
             a.cols == b.cols && a.dtype == b.dtype && a.projection == b.projection &&
             a.count_dtype == b.count_dtype;
    };
    return method == of && clips == clipping && device == on &&
           std::equal(infos.begin(), infos.end(), given.begin(), given.end(), same);
  }
};

// Plans of compiled functions, the last used first. Those that are used no more go: a model has one
// or two.
class Plans {
 public:
  static constexpr size_t kMost = 16;

  StepPlan& find(Method method, bool clips, at::Device device,
                 const std::vector<TensorInfo>& infos) {
    for (auto it = plans_.begin(); it != plans_.end(); ++it) {
      if (!it->serves(method, clips, device, infos)) continue;
      plans_.splice(plans_.begin(), plans_, it);
      return *plans_.front().plan;
    }
    const char* const executor = device.is_cpu() ? "cpu" : "cuda";
    auto plan = std::make_unique<StepPlan>(method, executor, clips, infos, device);
    plans_.push_front({method, clips, device, infos, std::move(plan)});
    // Memory on a device may be in a graph that torch has made of the compiled function.
    if (device.is_cpu() && plans_.size() > kMost) plans_.pop_back();
    return *plans_.front().plan;
  }

  std::mutex mutex;

 private:
  std::list<Planned> plans_;
};

Plans& plans() {
  static Plans* const value = new Plans;  // never destroyed: CUDA may be gone by then
  return *value;
}

double count_in(const at::Tensor& step) {
  return step.scalar_type() == at::kDouble ? *step.const_data_ptr<double>()
                                           : *step.const_data_ptr<float>();
}

// A number of a group: in a tensor, perhaps on the device.
void take_number(const std::optional<at::Tensor>& tensor, at::Device device, double& value,
                 const float*& on_device) {
  if (!tensor) return;
  if (device.is_cpu() || tensor->device() != device || tensor->scalar_type() != at::kFloat) {
    value = tensor->item<double>();
  } else {
    on_device = tensor->const_data_ptr<float>();
  }
}

std::vector<Hyper> hypers_of(Method method, at::Device device, const OptionalTensors& lrs,
                             const OptionalTensors& decays, at::ArrayRef<double> numbers,
                             at::IntArrayRef flags) {
  std::vector<Hyper> hypers;
  for (size_t i = 0; i < lrs.size(); ++i) {
    const double* const n = numbers.data() + i * kNumbers;
    const int64_t* const f = flags.data() + i * kFlags;
    GroupNumbers group = {n[0], n[1], nullptr, nullptr,   n[2],      n[3],
                          n[4], n[5], n[6],    f[0] != 0, f[1] != 0, f[2] != 0};
    take_number(lrs.get(i), device, group.lr, group.device_lr);
    take_number(decays.get(i), device, group.weight_decay, group.device_weight_decay);
    hypers.push_back(hyper_of(method, group));
  }
  return hypers;
}

// A tensor as a kernel can walk it: itself, or a copy by `strides` that is copied back.
class Staged {
 public:
  at::Tensor stage(const at::Tensor& tensor, at::IntArrayRef strides) {
    if (tensor.numel() == 0 || (equal(tensor.strides(), strides) && !tensor.is_neg()))
      return tensor;
    const at::Tensor copy = at::empty_strided(tensor.sizes(), strides, tensor.options());
    copy.copy_(tensor);
    copies_.emplace_back(tensor, copy);
    return copy;
  }
  void copy_back() const {
    for (const auto& [tensor, copy] : copies_) tensor.copy_(copy);
  }

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> copies_;
};

// Strides by which rows are runs: a parameter's own, where it is dense and its rows come first.
std::vector<int64_t> row_strides(const at::Tensor& param) {
  const bool rows_are_runs = param.dim() < 2 || param.numel() == 0 || param.size(0) == 0 ||
                             param.stride(0) * param.size(0) == param.numel();
  if (param.is_non_overlapping_and_dense() && rows_are_runs) return param.strides().vec();
  std::vector<int64_t> strides(param.dim());
  int64_t stride = 1;
  for (int64_t d = param.dim() - 1; d >= 0; --d) {
    strides[d] = stride;
    stride *= std::max<int64_t>(param.size(d), 1);
  }
  return strides;
}

// adamp_fused/_operator.py says what each argument is.
void step(c10::string_view name, at::TensorList params, at::TensorList grads,
          at::TensorList moments1, at::TensorList moments2, at::TensorList steps,
          at::TensorList views, at::TensorList stats, at::IntArrayRef groups,
          const c10::List<std::string>& projections, const OptionalTensors& lrs,
          const OptionalTensors& weight_decays, at::ArrayRef<double> numbers, at::IntArrayRef flags,
          const std::optional<at::Tensor>& grad_scale, const std::optional<at::Tensor>& found_inf,
          const std::optional<at::Tensor>& steps_skipped, double max_norm,
          const std::optional<at::Tensor>& grad_norm) {
  if (params.empty()) return;
  const Method method = method_named(std::string(name));
  const at::Device device = params[0].device();
  const bool by_host = device.is_cpu();
  Staged staged;
  std::vector<TensorInfo> infos;
  std::vector<at::Tensor> kept;  // until the step has been launched
  std::vector<const void*> addresses;
  size_t view = 0;
  for (size_t i = 0; i < params.size(); ++i) {
    const std::vector<int64_t> strides = row_strides(params[i]);
    const at::Tensor param = staged.stage(params[i], strides);
    const c10::TensorImpl& impl = *param.unsafeGetTensorImpl();
    TensorInfo info = info_of(impl, projection_of(projections.get(groups[i]), impl));
    const auto address = [&](const at::Tensor& tensor) {
      kept.push_back(staged.stage(tensor, strides));
      return kept.back().numel() == 0 ? nullptr : kept.back().mutable_data_ptr();
    };
    kept.push_back(param);
    info.param = param.mutable_data_ptr();
    info.moment1 = address(moments1[i]);
    if (!moments2.empty()) info.moment2 = address(moments2[i]);
    if (info.projection == Projection::kAuto) {
      info.view = static_cast<int32_t*>(views[view++].mutable_data_ptr());
    }
    if (!stats.empty()) info.stats = static_cast<TensorStats*>(stats[i].mutable_data_ptr());
    if (!steps.empty()) {
      info.count_dtype = steps[i].scalar_type() == at::kDouble ? DType::kFloat64 : DType::kFloat32;
      if (!by_host) info.count = steps[i].mutable_data_ptr();
    }
    at::Tensor grad = grads[i];
    if (!fits(grad, impl)) {
      grad = at::empty_strided(param.sizes(), strides, param.options());
      grad.copy_(grads[i]);
    }
    kept.push_back(grad);
    addresses.push_back(grad.numel() == 0 ? info.count : grad.const_data_ptr());
    infos.push_back(info);
  }
  Control control = {};
  if (grad_scale) control.grad_scale = grad_scale->const_data_ptr<float>();
  if (found_inf) control.found_inf = found_inf->const_data_ptr<float>();
  if (steps_skipped) control.steps_skipped = steps_skipped->mutable_data_ptr<int64_t>();
  if (grad_norm) {
    control.max_norm = max_norm;
    control.grad_norm = grad_norm->mutable_data_ptr();
    control.norm_dtype =
        grad_norm->scalar_type() == at::kDouble ? DType::kFloat64 : DType::kFloat32;
  }
  const std::vector<Hyper> hypers = hypers_of(method, device, lrs, weight_decays, numbers, flags);

  Plans& all = plans();
  const std::lock_guard<std::mutex> lock(all.mutex);
  StepPlan& plan = all.find(method, grad_norm.has_value(), device, infos);
  plan.begin(hypers);
  for (size_t i = 0; i < infos.size(); ++i) {
    const bool counted = by_host && !steps.empty();
    plan.add(static_cast<int32_t>(groups[i]), counted ? count_in(steps[i]) + 1 : 0, addresses[i]);
  }
  const bool is_captured = !by_host && plan.is_capturing();
  if (!is_captured) plan.follow_stream();
  plan.prepare(control, is_captured);
  if (plan.launch() && by_host) {
    for (const at::Tensor& count : steps) {
      count.scalar_type() == at::kDouble ? ++*count.mutable_data_ptr<double>()
                                         : ++*count.mutable_data_ptr<float>();
    }
  }
  staged.copy_back();
}

void step_of_fake_tensors(c10::string_view, at::TensorList, at::TensorList, at::TensorList,
                          at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                          at::IntArrayRef, const c10::List<std::string>&, const OptionalTensors&,
                          const OptionalTensors&, at::ArrayRef<double>, at::IntArrayRef,
                          const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                          const std::optional<at::Tensor>&, double,
                          const std::optional<at::Tensor>&) {}

}  // namespace

TORCH_LIBRARY(adamp_fused, library) {
  library.def(
      "step_(str method, Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] moments1,"
      " Tensor(c!)[] moments2, Tensor(d!)[] steps, Tensor(e!)[] views, Tensor(f!)[] stats,"
      " int[] groups, str[] projections, Tensor?[] lrs, Tensor?[] weight_decays, float[] numbers,"
      " int[] flags, Tensor? grad_scale, Tensor? found_inf, Tensor(g!)? steps_skipped,"
      " float max_norm, Tensor(h!)? grad_norm) -> ()",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(adamp_fused, CPU, library) { library.impl("step_", step); }
#if defined(ADAMP_FUSED_WITH_CUDA)
TORCH_LIBRARY_IMPL(adamp_fused, CUDA, library) { library.impl("step_", step); }
#endif
TORCH_LIBRARY_IMPL(adamp_fused, Meta, library) { library.impl("step_", step_of_fake_tensors); }

}  // namespace adamp
