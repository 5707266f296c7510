#include "plan.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/python_variable.h>

#include <cmath>
#include <stdexcept>
#include <unordered_map>

#include "names.h"

namespace py = pybind11;

namespace adamp {
namespace {

// A CPU step of at most so many elements keeps Python's lock: it is over within a millisecond, and
// Python lets a thread that has the lock keep it for five.
constexpr int64_t kShortStep = 1 << 20;

void run_on_team(int64_t threads, const std::function<void(int64_t)>& body) {
  at::parallel_for(0, threads, 1, [&](int64_t thread, int64_t) { body(thread); });
}

c10::Stream current_stream(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

// memory: where the executor's memory is listed as it is allocated.
std::unique_ptr<Executor> make_executor(const std::string& name, Method method,
                                        std::vector<TensorInfo> tensors,
                                        [[maybe_unused]] at::Device device,
                                        [[maybe_unused]] std::vector<at::Tensor>& memory,
                                        [[maybe_unused]] void* stream) {
  if (name == "cpu") return make_cpu_executor(method, std::move(tensors), run_on_team);
#if defined(ADAMP_FUSED_WITH_CUDA)
  if (name == "cuda") {
    const Allocate allocate = [device, &memory](int64_t bytes) {
      const auto options = at::TensorOptions().dtype(at::kByte).device(device);
      auto piece = std::make_shared<at::Tensor>(at::empty({bytes}, options));
      memory.push_back(*piece);
      return std::shared_ptr<void>(piece, piece->data_ptr());
    };
    return make_cuda_executor(method, std::move(tensors), allocate, stream);
  }
#endif
  throw std::invalid_argument("this build has no executor named '" + name + "'");
}

}  // namespace

Plan::Plan(const std::string& method, const std::optional<std::string>& executor,
           const py::list& slots, const py::list& groups, const py::dict& state) {
  options_.method = method_named(method);
  std::unordered_map<PyObject*, int64_t> entry_of;
  int64_t numel = 0;
  std::vector<TensorInfo> infos;
  entries_.reserve(py::len(slots));
  for (const py::handle slot : slots) {
    const Entry& entry = entries_.emplace_back(options_.method, slot, lock_);
    infos.push_back(entry.info());
    numel += entry.param.tensor().numel();
    entry_of[entry.param.object] = static_cast<int64_t>(entries_.size()) - 1;
  }
  const auto find = [&](const py::handle& param) {
    const auto found = entry_of.find(param.ptr());
    return found == entry_of.end() ? -1 : found->second;
  };
  if (!entries_.empty()) device_ = entries_[0].param.tensor().device();
  if (!device_.is_cpu()) {
    options_.lr_device = device_;
    stream_ = current_stream(device_);
  }
  keeps_gil_ = executor && device_.is_cpu() && numel <= kShortStep;
  const c10::OptionalDeviceGuard guard(device_);
  if (executor) {
    executor_ = make_executor(*executor, options_.method, std::move(infos), device_, memory_,
                              stream_ ? stream_->native_handle() : nullptr);
  }

  size_t covered = 0;
  for (const py::handle group : groups) {
    auto& listed = listed_.emplace_back();
    for (const py::handle param : py::cast<py::dict>(group)["params"]) {
      listed.push_back({param.ptr(), find(param)});
      covered += listed.back().entry >= 0;
    }
    projections_.push_back(py::cast<py::dict>(group)["projection"]);
  }
  covers_params_ = covered == entries_.size();
  serves_.resize(listed_.size());
  for (const Entry& entry : entries_) serves_[entry.group] = true;
  for (const auto& item : state) {
    state_items_.push_back({item.first.ptr(), item.second.ptr(), find(item.first)});
  }
  group_options_.resize(listed_.size());
  hyper_indices_.resize(entries_.size());
  grads_.resize(entries_.size());
  if (!read_options(groups)) throw std::invalid_argument("an option of a group is not a number");
}

bool Plan::refresh(const py::list& groups, const py::dict& state) {
  lock_.clear();
  lock_.needed = !keeps_gil_;
  prepared_ = false;
  const bool fits =
      covers_params_ && check_state(state) && read_options(groups) && refresh_entries(groups);
  if (!fits) lock_.clear();
  return fits;
}

// Whether the state is kept for the same parameters, in the same dictionaries. One of them may be
// new, at the address of one that was: what it holds is then looked at all the same.
bool Plan::check_state(const py::dict& state) {
  if (PyDict_Size(state.ptr()) != static_cast<Py_ssize_t>(state_items_.size())) return false;
  Py_ssize_t position = 0;
  PyObject *key, *value;
  for (size_t i = 0; PyDict_Next(state.ptr(), &position, &key, &value); ++i) {
    const StateItem& item = state_items_[i];
    if (key != item.param || value != item.values) return false;
    if (item.entry < 0) continue;
    if (!PyDict_Check(value)) return false;
    entries_[item.entry].state = value;
  }
  return true;
}

bool Plan::read_options(const py::list& groups) {
  if (PyList_GET_SIZE(groups.ptr()) != static_cast<Py_ssize_t>(group_options_.size())) return false;
  for (size_t i = 0; i < group_options_.size(); ++i) {
    if (!serves_[i]) continue;  // another backend may serve it, which this one could not
    PyObject* const group = PyList_GET_ITEM(groups.ptr(), i);
    if (!options_.read(group, projections_[i].ptr(), group_options_[i])) return false;
  }
  return true;
}

// While one entry is looked at, prefetches what is looked at of a later one. Measured with 1,000
// tensors after a step of another optimizer: two ahead, 1,130 to 970 us; one, four or eight, a
// little less.
void Plan::prefetch_ahead(size_t entry) const {
  constexpr size_t kAhead = 2;
  if (entry + kAhead < entries_.size()) entries_[entry + kAhead].prefetch();
}

bool Plan::refresh_entries(const py::list& groups) {
  for (size_t i = 0; i < listed_.size(); ++i) {
    PyObject* params = PyDict_GetItem(PyList_GET_ITEM(groups.ptr(), i), names().params);
    const std::vector<Listed>& listed = listed_[i];
    if (params == nullptr || !PyList_Check(params) ||
        PyList_GET_SIZE(params) != static_cast<Py_ssize_t>(listed.size())) {
      return false;
    }
    for (size_t j = 0; j < listed.size(); ++j) {
      PyObject* object = PyList_GET_ITEM(params, j);
      if (object != listed[j].param) return false;
      if (const int64_t entry = listed[j].entry; entry >= 0) {
        prefetch_ahead(static_cast<size_t>(entry));
        if (!entries_[entry].refresh(object, lock_)) return false;
        continue;
      }
      // Of another device, or without a gradient until now.
      const at::Tensor& param = THPVariable_Unpack(object);
      if (param.grad().defined() && param.device() == device_) return false;
    }
  }
  return true;
}

void Plan::gather() {
  hypers_.clear();
  hyper_keys_.clear();
  hyper_index_.clear();
  last_of_group_.assign(group_options_.size(), {0, -1});
  for (size_t t = 0; t < entries_.size(); ++t) {
    const Entry& entry = entries_[t];
    hyper_indices_[t] = hyper_index_of(entry.group, entry.next_count());
    grads_[t] = entry.grad_address;
  }
}

std::tuple<at::Tensor, at::Tensor, std::vector<std::pair<int32_t, double>>> Plan::inputs() {
  gather();
  const int64_t n = static_cast<int64_t>(entries_.size());
  at::Tensor addresses = at::empty({n}, at::kLong), indices = at::empty({n}, at::kLong);
  for (int64_t t = 0; t < n; ++t) {
    addresses.mutable_data_ptr<int64_t>()[t] = reinterpret_cast<int64_t>(grads_[t]);
    indices.mutable_data_ptr<int64_t>()[t] = hyper_indices_[t];
  }
  return {addresses, indices, hyper_keys_};
}

bool Plan::follow_stream() {
  if (!stream_) return false;
  const c10::Stream now = current_stream(device_);
  if (now == *stream_) return false;
  if (!moved_) moved_.emplace(device_.type());
  moved_->record(*stream_);
  moved_->block(now);
  for (const at::Tensor& memory : memory_) memory.record_stream(now);
  stream_ = now;
  return true;
}

template <class Body>
void Plan::without_gil(const Body& body) const {
  const c10::OptionalDeviceGuard guard(device_);
  if (keeps_gil_) return body();
  py::gil_scoped_release release;
  body();
}

void Plan::prepare() {
  prepared_ = true;
  if (!executor_) return;
  gather();
  follow_stream();
  const StepInputs inputs = {grads_.data(),         hyper_indices_.data(),
                             hypers_.data(),        static_cast<int64_t>(hypers_.size()),
                             at::get_num_threads(), stream_ ? stream_->native_handle() : nullptr};
  without_gil([&] { executor_->prepare(inputs); });
}

void Plan::run() {
  if (!prepared_) prepare();
  prepared_ = false;
  if (executor_) without_gil([&] { executor_->launch(); });
  // A launch that failed has advanced nothing; on a GPU, one that did not fail is at work by now.
  for (Entry& entry : entries_) entry.end_step();
  lock_.clear();
}

// One Hyper for each (group, step count) that occurs.
int32_t Plan::hyper_index_of(int32_t group, double count) {
  // Nearly always the count that the group's last parameter had.
  std::pair<double, int32_t>& last = last_of_group_[group];
  if (last.second >= 0 && last.first == count) return last.second;
  const auto [found, is_new] = hyper_index_.try_emplace({group, count}, hypers_.size());
  if (is_new) {
    Hyper h = group_options_[group];
    if (count > 0) {
      for_method(options_.method, [&](auto m) { decltype(m)::correct_bias(h, count); });
    }
    hyper_keys_.emplace_back(group, count);
    hypers_.push_back(h);
  }
  last = {count, found->second};
  return found->second;
}

}  // namespace adamp
