#include "plan.h"

#include <ATen/ops/empty.h>

namespace py = pybind11;

namespace adamp {
namespace {

// A CPU step of at most so many elements keeps Python's lock: it is over within a millisecond, and
// Python lets a thread that has the lock keep it for five.
constexpr int64_t kShortStep = 1 << 20;

bool is_short(const Tracker& tracker) {
  int64_t numel = 0;
  for (const Entry& entry : tracker.entries()) numel += entry.param.tensor().numel();
  return tracker.device().is_cpu() && numel <= kShortStep;
}

}  // namespace

Plan::Plan(const std::string& method, const std::optional<std::string>& executor,
           const py::list& slots, const py::list& groups, const py::dict& state)
    : method_(method_named(method)),
      has_executor_(executor.has_value()),
      tracker_(method_, slots, groups, state),
      step_(method_, executor, tracker_.infos(), tracker_.device()),
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
  constexpr int64_t kFields =
      sizeof(Scalars<double>) / sizeof(double) + 1;  // two flags of half the size
  const int64_t n = static_cast<int64_t>(step_.grads().size());
  const int64_t n_hypers = static_cast<int64_t>(step_.hypers().size());
  at::Tensor addresses = at::empty({n}, at::kLong), indices = at::empty({n}, at::kLong);
  at::Tensor scalars = at::empty({n_hypers, kFields}, at::kDouble);
  at::Tensor lr_addresses = at::empty({n_hypers}, at::kLong);
  for (int64_t t = 0; t < n; ++t) {
    addresses.mutable_data_ptr<int64_t>()[t] = reinterpret_cast<int64_t>(step_.grads()[t]);
    indices.mutable_data_ptr<int64_t>()[t] = step_.hyper_indices()[t];
  }
  double* to = scalars.mutable_data_ptr<double>();
  for (int64_t i = 0; i < n_hypers; ++i) {
    const Hyper& hyper = step_.hypers()[i];
    const Scalars<double> h = make_scalars<double>(hyper, hyper.device_lr ? 1 : hyper.lr);
    const bool buffer =
        for_method(method_, [&](auto m) { return projects_buffer<decltype(m)>(h); });
    for (const double value :
         {h.beta1, h.one_minus_beta1, h.beta2, h.one_minus_beta2, h.inv_root_bias_correction2,
          h.eps, h.step_size, h.decay, h.decay_projected, h.delta, h.sign,
          static_cast<double>(h.nesterov), static_cast<double>(buffer)}) {
      *to++ = value;
    }
    lr_addresses.mutable_data_ptr<int64_t>()[i] = reinterpret_cast<int64_t>(hyper.device_lr);
  }
  return {addresses, indices, scalars, lr_addresses};
}

template <class Body>
void Plan::without_gil(const Body& body) const {
  if (keeps_gil_) return body();
  py::gil_scoped_release release;
  body();
}

void Plan::prepare() {
  prepared_ = true;
  if (!has_executor_) return;
  gather();
  step_.follow_stream();
  without_gil([&] { step_.prepare(); });
}

void Plan::run() {
  if (!prepared_) prepare();
  prepared_ = false;
  if (has_executor_) without_gil([&] { step_.launch(); });
  // A launch that failed has advanced nothing; on a GPU, one that did not fail is at work by now.
  tracker_.end_step();
}

}  // namespace adamp
