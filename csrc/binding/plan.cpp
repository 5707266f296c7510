#include "plan.h"

#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/python_variable.h>

namespace py = pybind11;

namespace adamp {
namespace {

// A CPU step of at most so many elements keeps Python's lock: it is over within a millisecond, and
// Python lets a thread that has the lock keep it for five.
constexpr int64_t kShortStep = 1 << 20;

bool is_short(const Tracker& tracker) {
  int64_t numel = 0;
  for (const Entry& entry : tracker.entries()) numel += entry.param.tensor().numel();
  // Other threads run while sums are added up over processes.
  return tracker.device().is_cpu() && numel <= kShortStep && !tracker.has_shards();
}

// The addresses of an adamp_fused.backends.protocol.Control, or of None.
Control control_of(const py::object& given) {
  Control control = {};
  if (given.is_none()) return control;
  const auto tensor_of = [&](const char* name) {
    const py::object value = given.attr(name);
    return value.is_none() ? at::Tensor() : THPVariable_Unpack(value.ptr());
  };
  if (const at::Tensor scale = tensor_of("grad_scale"); scale.defined()) {
    control.grad_scale = scale.const_data_ptr<float>();
  }
  if (const at::Tensor found = tensor_of("found_inf"); found.defined()) {
    control.found_inf = found.const_data_ptr<float>();
  }
  if (const at::Tensor skipped = tensor_of("steps_skipped"); skipped.defined()) {
    control.steps_skipped = skipped.mutable_data_ptr<int64_t>();
  }
  if (const at::Tensor clip = tensor_of("clip"); clip.defined()) {
    control.clip = clip.const_data_ptr<double>();
  }
  if (const at::Tensor norm = tensor_of("grad_norm"); norm.defined()) {
    control.max_norm = given.attr("max_norm").cast<double>();
    control.grad_norm = norm.mutable_data_ptr();
    control.norm_dtype = norm.scalar_type() == at::kDouble ? DType::kFloat64 : DType::kFloat32;
  }
  return control;
}

}  // namespace

Plan::Plan(const std::string& method, const std::optional<std::string>& executor,
           const py::list& slots, const py::list& groups, const py::dict& state, bool clips)
    : method_(method_named(method)),
      has_executor_(executor.has_value()),
      tracker_(method_, slots, groups, state, executor == "cpu"),
      step_(method_, executor, clips, tracker_.infos(), tracker_.device()),
      keeps_gil_(executor && is_short(tracker_)) {
  if (keeps_gil_) tracker_.keep_gil();
}

bool Plan::refresh(const py::list& groups, const py::dict& state) {
  prepared_ = false;
  return tracker_.refresh(groups, state);
}

void Plan::gather() {
  step_.begin(tracker_.group_options());
  for (const Entry& entry : tracker_.entries()) {
    step_.add(entry.group, entry.next_count(), entry.grad_address);
  }
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> Plan::inputs() {
  gather();
  // The two flags of Scalars are of half the size.
  constexpr int64_t kFields = sizeof(Scalars<double>) / sizeof(double) + 1 + 2;
  const int64_t n = static_cast<int64_t>(step_.grads().size());
  const int64_t n_hypers = static_cast<int64_t>(step_.hypers().size());
  at::Tensor addresses = at::empty({n}, at::kLong), indices = at::empty({n}, at::kLong);
  at::Tensor scalars = at::empty({n_hypers, kFields}, at::kDouble);
  at::Tensor number_addresses = at::empty({n_hypers, 2}, at::kLong);
  for (int64_t t = 0; t < n; ++t) {
    addresses.mutable_data_ptr<int64_t>()[t] = reinterpret_cast<int64_t>(step_.grads()[t]);
    indices.mutable_data_ptr<int64_t>()[t] = step_.hyper_indices()[t];
  }
  double* to = scalars.mutable_data_ptr<double>();
  for (int64_t i = 0; i < n_hypers; ++i) {
    const Hyper& hyper = step_.hypers()[i];
    StepNumbers now = hyper.numbers;
    if (hyper.device_lr != nullptr) now.lr = 1;
    if (hyper.device_weight_decay != nullptr) now.weight_decay = 1;
    const Scalars<double> h = make_scalars<double>(hyper, now);
    const bool buffer =
        for_method(method_, [&](auto m) { return projects_buffer<decltype(m)>(h); });
    for (const double value :
         {h.beta1, h.one_minus_beta1, h.beta2, h.one_minus_beta2, h.inv_root_bias_correction2,
          h.eps, h.step_size, h.decay, h.decay_projected, h.delta, h.factor,
          static_cast<double>(h.nesterov), static_cast<double>(buffer), now.lr,
          now.inv_bias_correction1}) {
      *to++ = value;
    }
    int64_t* const of_device = number_addresses.mutable_data_ptr<int64_t>() + 2 * i;
    of_device[0] = reinterpret_cast<int64_t>(hyper.device_lr);
    of_device[1] = reinterpret_cast<int64_t>(hyper.device_weight_decay);
  }
  return {addresses, indices, scalars, number_addresses};
}

template <class Body>
void Plan::without_gil(const Body& body) const {
  if (keeps_gil_) return body();
  py::gil_scoped_release release;
  body();
}

void Plan::prepare(const py::object& control) {
  prepared_ = true;
  if (!has_executor_) return;
  const bool is_captured = !control.is_none() && control.attr("is_captured").cast<bool>();
  const Control addresses = control_of(control);
  gather();
  if (!is_captured) step_.follow_stream();
  without_gil([&] { step_.prepare(addresses, is_captured); });
}

void Plan::run() {
  if (!prepared_) prepare(py::none());
  prepared_ = false;
  made_ = true;
  if (has_executor_) without_gil([&] { made_ = step_.launch(); });
  // A launch that failed has advanced nothing; on a GPU, one that did not fail is at work by now.
  if (!tracker_.has_shards()) tracker_.end_step(made_);
}

void Plan::finish() {
  if (has_executor_ && made_) without_gil([&] { step_.finish(); });
  tracker_.end_step(made_);
}

}  // namespace adamp
