#include "plan.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/python_variable.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <unordered_map>

namespace py = pybind11;

namespace adamp {
namespace {

// Tensors whose cache lines are asked for ahead.
constexpr size_t kAhead = 4;

// Option and state names, interned once: dictionary look-ups by identity.
PyObject* name(const char* text) { return PyUnicode_InternFromString(text); }

struct Names {
  PyObject* params = name("params");
  PyObject* lr = name("lr");
  PyObject* betas = name("betas");
  PyObject* eps = name("eps");
  PyObject* weight_decay = name("weight_decay");
  PyObject* delta = name("delta");
  PyObject* wd_ratio = name("wd_ratio");
  PyObject* nesterov = name("nesterov");
  PyObject* maximize = name("maximize");
  PyObject* projection = name("projection");
  PyObject* capturable = name("capturable");
  PyObject* momentum = name("momentum");
  PyObject* dampening = name("dampening");
  PyObject* project_buffer = name("project_buffer");
  PyObject* step = name("step");
  PyObject* exp_avg = name("exp_avg");
  PyObject* exp_avg_sq = name("exp_avg_sq");
  PyObject* view = name("view");
};

const Names& names() {
  static const Names value;
  return value;
}

DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
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

Projection projection_of(const std::string& option, const at::Tensor& param) {
  if (param.dim() < 2 || option == "off") return Projection::kOff;
  if (option == "channel") return Projection::kChannel;
  if (option == "layer") return Projection::kLayer;
  return Projection::kAuto;
}

// Where a tensor's data is: what data_ptr() says, without a call and its checks.
const void* address_of(const at::Tensor& tensor) {
  const c10::TensorImpl* const impl = tensor.unsafeGetTensorImpl();
  const char* const storage =
      static_cast<const char*>(impl->unsafe_storage().unsafeGetStorageImpl()->data());
  return storage + impl->storage_offset() * static_cast<int64_t>(impl->itemsize());
}

// Like ==, which calls memcmp for a handful of numbers.
bool equal(at::IntArrayRef a, at::IntArrayRef b) {
  if (a.size() != b.size()) return false;
  for (size_t d = 0; d < a.size(); ++d) {
    if (a[d] != b[d]) return false;
  }
  return true;
}

// Whether a gradient can be walked beside its parameter, at the parameter's own offsets.
bool fits(const at::Tensor& grad, const at::Tensor& param) {
  if (grad.layout() != at::kStrided || grad.is_neg() || grad.scalar_type() != param.scalar_type() ||
      grad.device() != param.device() || !equal(grad.sizes(), param.sizes())) {
    return false;
  }
  if (equal(grad.strides(), param.strides()) || param.numel() == 0) return true;
  for (int64_t d = 0; d < param.dim(); ++d) {
    if (param.size(d) != 1 && grad.stride(d) != param.stride(d)) return false;
  }
  return true;
}

// A number of a parameter group; false (and no Python error) if it is none or below `least`.
bool read_number(PyObject* group, PyObject* key, double& value, double least = 0) {
  PyObject* object = PyDict_GetItem(group, key);
  if (object == nullptr) return false;
  if (THPVariable_Check(object)) {
    const at::Tensor& tensor = THPVariable_Unpack(object);
    if (tensor.numel() != 1) return false;
    value = tensor.item<double>();
  } else {
    value = PyFloat_AsDouble(object);
    if (value == -1 && PyErr_Occurred()) {
      PyErr_Clear();
      return false;
    }
  }
  return value >= least;
}

bool read_flag(PyObject* group, PyObject* key, int32_t& value) {
  PyObject* object = PyDict_GetItem(group, key);
  value = object != nullptr && PyObject_IsTrue(object) == 1;
  return object != nullptr;
}

bool read_betas(PyObject* group, Hyper& h) {
  PyObject* betas = PyDict_GetItem(group, names().betas);
  if (betas == nullptr) return false;
  PyObject* pair = PySequence_Fast(betas, "");
  bool ok = pair != nullptr && PySequence_Fast_GET_SIZE(pair) == 2;
  if (ok) {
    h.decay1 = PyFloat_AsDouble(PySequence_Fast_GET_ITEM(pair, 0));
    h.decay2 = PyFloat_AsDouble(PySequence_Fast_GET_ITEM(pair, 1));
    ok = !PyErr_Occurred() && h.decay1 >= 0 && h.decay1 < 1 && h.decay2 >= 0 && h.decay2 < 1;
  }
  Py_XDECREF(pair);
  PyErr_Clear();
  h.gain1 = 1 - h.decay1;
  h.gain2 = 1 - h.decay2;
  return ok;
}

bool read_momentum(PyObject* group, Hyper& h) {
  double dampening = 0;
  if (!read_number(group, names().momentum, h.decay1) || h.decay1 >= 1 ||
      !read_number(group, names().dampening, dampening, -HUGE_VAL) ||
      !read_flag(group, names().project_buffer, h.project_buffer)) {
    return false;
  }
  h.gain1 = 1 - dampening;
  h.decay_gain = 1 / (1 - h.decay1);
  return true;
}

void run_on_team(int64_t threads, const std::function<void()>& body) {
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) { body(); });
}

void* current_stream(at::Device device) {
  if (device.is_cpu()) return nullptr;
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
}

std::unique_ptr<Executor> make_executor(const std::string& name, Method method,
                                        std::vector<TensorInfo> tensors,
                                        [[maybe_unused]] at::Device device) {
  if (name == "cpu") return make_cpu_executor(method, std::move(tensors), run_on_team);
#if defined(ADAMP_FUSED_WITH_CUDA)
  if (name == "cuda") {
    const Allocate allocate = [device](int64_t bytes) {
      const auto options = at::TensorOptions().dtype(at::kByte).device(device);
      auto memory = std::make_shared<at::Tensor>(at::empty({bytes}, options));
      return std::shared_ptr<void>(memory, memory->data_ptr());
    };
    return make_cuda_executor(method, std::move(tensors), allocate, current_stream(device));
  }
#endif
  throw std::invalid_argument("this build has no executor named '" + name + "'");
}

}  // namespace

Watched::Watched(py::handle handle, PyObject* key)
    : key(key),
      object(py::reinterpret_borrow<py::object>(handle)),
      tensor(THPVariable_Unpack(handle.ptr())),
      data(address_of(tensor)),
      storage(tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl()) {}

bool Watched::moved() const { return object && address_of(tensor) != data; }

// A step looks at some thirty cache lines of each tensor that the step before has pushed out of the
// nearest cache: better all at once than one after the other.
void Watched::prefetch() const {
  if (!object) return;
  const char* const impl = reinterpret_cast<const char*>(tensor.unsafeGetTensorImpl());
  __builtin_prefetch(impl);
  __builtin_prefetch(impl + 64);
  __builtin_prefetch(impl + 128);
  __builtin_prefetch(storage);
}

void Entry::prefetch() const {
  for (const Watched* watched : {&param, &moment1, &moment2, &step, &view}) watched->prefetch();
  __builtin_prefetch(state.ptr());
}

// Whether every tensor of the state is the one it was, where it was.
bool Entry::same_state() const {
  const Watched* const all[] = {&moment1, &moment2, &step, &view};
  int wanted = 0, found = 0;
  for (const Watched* watched : all) {
    if (watched->moved()) return false;
    wanted += static_cast<bool>(watched->object);
  }
  // The keys nearly always are the very strings that we know: then no hash has to be looked up.
  Py_ssize_t position = 0;
  PyObject *key, *value;
  while (PyDict_Next(state.ptr(), &position, &key, &value)) {
    for (const Watched* watched : all) {
      if (key != watched->key) continue;
      if (value != watched->object.ptr()) return false;
      ++found;
    }
  }
  if (found == wanted) return true;
  for (const Watched* watched : all) {
    if (watched->object && PyDict_GetItem(state.ptr(), watched->key) != watched->object.ptr()) {
      return false;
    }
  }
  return true;
}

Plan::Plan(const std::string& method, const std::string& executor, const py::list& slots,
           const py::list& groups, const py::dict& state)
    : method_(method == "adamp" ? Method::kAdamP : Method::kSGDP) {
  std::unordered_map<PyObject*, int64_t> entry_of;
  std::vector<TensorInfo> infos;
  entries_.reserve(py::len(slots));
  for (const py::handle slot : slots) {
    Entry entry;
    entry.param = Watched(slot.attr("param"));
    entry.state = slot.attr("state");
    entry.group = slot.attr("group_index").cast<int32_t>();
    const py::object grad = slot.attr("grad");
    if (!grad.is_none()) entry.grad = THPVariable_Unpack(grad.ptr());
    const py::dict options = slot.attr("group");
    const auto of_state = [&entry](PyObject* key) {
      PyObject* const value = PyDict_GetItem(entry.state.ptr(), key);
      return value == nullptr ? Watched() : Watched(value, key);
    };
    const at::Tensor& param = entry.param.tensor;
    entry.sizes = param.sizes().vec();
    entry.strides = param.strides().vec();
    TensorInfo info = {};
    info.projection = projection_of(options["projection"].cast<std::string>(), param);
    entry.moment1 = of_state(method_ == Method::kAdamP ? names().exp_avg : names().momentum);
    if (method_ == Method::kAdamP) {
      entry.moment2 = of_state(names().exp_avg_sq);
      entry.step = of_state(names().step);
      info.moment2 = entry.moment2.tensor.data_ptr();
    }
    if (info.projection == Projection::kAuto) {
      entry.view = of_state(names().view);
      info.view = entry.view.tensor.data_ptr<int32_t>();
    }
    info.param = param.data_ptr();
    info.moment1 = entry.moment1.tensor.data_ptr();
    // Without a test of rows a tensor is one run of elements.
    info.rows = info.projection == Projection::kOff ? 1 : param.size(0);
    info.cols = info.rows == 0 ? 0 : param.numel() / info.rows;
    info.dtype = dtype_of(param);
    infos.push_back(info);
    entry_of[entry.param.object.ptr()] = static_cast<int64_t>(entries_.size());
    entries_.push_back(std::move(entry));
  }
  if (!entries_.empty()) device_ = entries_[0].param.tensor.device();
  lr_on_device_ = executor == "cuda";
  const c10::OptionalDeviceGuard guard(device_);
  executor_ = make_executor(executor, method_, std::move(infos), device_);

  size_t covered = 0;
  for (const py::handle group : groups) {
    auto& listed = listed_.emplace_back();
    for (const py::handle param : py::cast<py::dict>(group)["params"]) {
      const auto found = entry_of.find(param.ptr());
      listed.push_back({param.ptr(), found == entry_of.end() ? -1 : found->second});
      covered += found != entry_of.end();
    }
    projections_.push_back(py::cast<py::dict>(group)["projection"]);
  }
  covers_params_ = covered == entries_.size();
  for (const auto& item : state) state_items_.emplace_back(item.first.ptr(), item.second.ptr());
  group_options_.resize(listed_.size());
  hyper_indices_.resize(entries_.size());
  grads_.resize(entries_.size());
  if (!read_options(groups)) throw std::invalid_argument("an option of a group is not a number");
}

bool Plan::refresh(const py::list& groups, const py::dict& state) {
  return covers_params_ && same_state(state) && read_options(groups) && read_grads(groups);
}

bool Plan::same_state(const py::dict& state) const {
  if (PyDict_Size(state.ptr()) != static_cast<Py_ssize_t>(state_items_.size())) return false;
  Py_ssize_t position = 0;
  PyObject *key, *value;
  for (size_t i = 0; PyDict_Next(state.ptr(), &position, &key, &value); ++i) {
    if (key != state_items_[i].first || value != state_items_[i].second) return false;
  }
  for (size_t t = 0; t < entries_.size(); ++t) {
    if (t + kAhead < entries_.size()) entries_[t + kAhead].prefetch();
    if (!entries_[t].same_state()) return false;
  }
  return true;
}

// A learning rate that lives on the device is read there: asking for its value would wait.
bool Plan::read_lr(PyObject* group, Hyper& h) const {
  PyObject* object = PyDict_GetItem(group, names().lr);
  if (lr_on_device_ && object != nullptr && THPVariable_Check(object)) {
    const at::Tensor& lr = THPVariable_Unpack(object);
    if (lr.device() == device_ && lr.scalar_type() == at::kFloat && lr.numel() == 1) {
      h.device_lr = lr.const_data_ptr<float>();
      return true;
    }
  }
  return read_number(group, names().lr, h.lr);
}

bool Plan::read_options(const py::list& groups) {
  if (PyList_GET_SIZE(groups.ptr()) != static_cast<Py_ssize_t>(group_options_.size())) return false;
  const Names& n = names();
  for (size_t i = 0; i < group_options_.size(); ++i) {
    PyObject* group = PyList_GET_ITEM(groups.ptr(), i);
    Hyper h = {};
    h.decay_gain = h.inv_bias_correction1 = h.inv_root_bias_correction2 = 1;
    int32_t capturable = 0;
    PyObject* projection = PyDict_GetItem(group, n.projection);
    const bool ok =
        projection != nullptr &&
        PyObject_RichCompareBool(projection, projections_[i].ptr(), Py_EQ) == 1 &&
        read_lr(group, h) && read_number(group, n.eps, h.eps) &&
        read_number(group, n.weight_decay, h.weight_decay) &&
        read_number(group, n.delta, h.delta) && read_number(group, n.wd_ratio, h.wd_ratio) &&
        read_flag(group, n.nesterov, h.nesterov) && read_flag(group, n.maximize, h.maximize) &&
        read_flag(group, n.capturable, capturable) && capturable == 0 &&
        (method_ == Method::kAdamP ? read_betas(group, h) : read_momentum(group, h));
    if (!ok) return false;
    group_options_[i] = h;
  }
  return true;
}

bool Plan::read_grads(const py::list& groups) {
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
      const at::Tensor& param = THPVariable_Unpack(object);
      const at::Tensor& grad = param.grad();
      if (listed[j].entry < 0) {
        // Of another device, or without a gradient until now.
        if (grad.defined() && param.device() == device_) return false;
        continue;
      }
      Entry& entry = entries_[listed[j].entry];
      if (entry.param.moved() || !equal(param.sizes(), entry.sizes) ||
          !equal(param.strides(), entry.strides) || (grad.defined() && !fits(grad, param))) {
        return false;
      }
      entry.grad = grad;
    }
  }
  return true;
}

void Plan::run() {
  count_steps();
  for (size_t t = 0; t < entries_.size(); ++t) {
    const Entry& entry = entries_[t];
    const bool active = entry.grad.defined() && entry.param.tensor.numel() > 0;
    grads_[t] = active ? address_of(entry.grad) : nullptr;
    if (!active) continue;
    for (const Watched* written : {&entry.param, &entry.moment1, &entry.moment2, &entry.view}) {
      if (written->object) written->tensor.unsafeGetTensorImpl()->bump_version();
    }
  }
  {
    const c10::OptionalDeviceGuard guard(device_);
    void* stream = current_stream(device_);
    py::gil_scoped_release release;
    executor_->run({grads_.data(), hyper_indices_.data(), hypers_.data(),
                    static_cast<int64_t>(hypers_.size()), at::get_num_threads(), stream});
  }
  // A gradient belongs to the user: zero_grad must be able to free it.
  for (Entry& entry : entries_) entry.grad = at::Tensor();
}

// Advances the step counts and makes one Hyper for each (group, count) that occurs.
void Plan::count_steps() {
  hypers_.clear();
  hyper_keys_.clear();
  for (size_t t = 0; t < entries_.size(); ++t) {
    Entry& entry = entries_[t];
    double count = 0;
    if (entry.step.object && entry.grad.defined()) {
      at::Tensor& step = entry.step.tensor;
      count = step.scalar_type() == at::kDouble ? ++*step.data_ptr<double>()
                                                : ++*step.data_ptr<float>();
      step.unsafeGetTensorImpl()->bump_version();
    }
    // Nearly always the last pair again, or one of very few.
    const std::pair<int32_t, double> key = {entry.group, count};
    size_t i = hyper_keys_.size();
    while (i > 0 && hyper_keys_[i - 1] != key) --i;
    if (i == 0) {
      Hyper h = group_options_[entry.group];
      if (count > 0) {
        h.inv_bias_correction1 = 1 / (1 - std::pow(h.decay1, count));
        h.inv_root_bias_correction2 = 1 / std::sqrt(1 - std::pow(h.decay2, count));
      }
      hyper_keys_.push_back(key);
      hypers_.push_back(h);
      i = hypers_.size();
    }
    hyper_indices_[t] = static_cast<int32_t>(i - 1);
  }
}

}  // namespace adamp
