#include "entry.h"

#include <torch/csrc/autograd/python_variable.h>

#include <stdexcept>

#include "names.h"

namespace py = pybind11;

namespace adamp {
namespace {

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

}  // namespace

const void* address_of(const at::Tensor& tensor) {
  const c10::TensorImpl* const impl = tensor.unsafeGetTensorImpl();
  const char* const storage =
      static_cast<const char*>(impl->unsafe_storage().unsafeGetStorageImpl()->data());
  if (storage == nullptr) return nullptr;
  return storage + impl->storage_offset() * static_cast<int64_t>(impl->itemsize());
}

Whereabouts Whereabouts::of(const at::Tensor& tensor) {
  const c10::TensorImpl* const impl = tensor.unsafeGetTensorImpl();
  return {impl, impl->unsafe_storage().unsafeGetStorageImpl()};
}

// Only the ends of these objects are looked at: storage and version counter at the beginning,
// offset and type at the end. An end may lie in two cache lines.
void Whereabouts::ask_for() const {
  const auto ask = [](const void* object, size_t offset) {
    __builtin_prefetch(static_cast<const char*>(object) + offset);
  };
  ask(tensor, 16);
  ask(tensor, 40);
  ask(tensor, sizeof(c10::TensorImpl) - 32);
  ask(tensor, sizeof(c10::TensorImpl) - 8);
  ask(storage, 16);
  ask(storage, sizeof(c10::StorageImpl) - 8);
}

Watched::Watched(PyObject* object, PyObject* key)
    : key(key),
      object(py::reinterpret_borrow<py::object>(object)),
      tensor(THPVariable_Unpack(object)),
      data(address_of(tensor)),
      lies(Whereabouts::of(tensor)) {}

Entry::Entry(Method method, const py::handle& slot)
    : param(slot.attr("param").ptr()),
      state(slot.attr("state")),
      group(slot.attr("group_index").cast<int32_t>()) {
  const auto of_state = [this](PyObject* key) {
    PyObject* const value = PyDict_GetItem(state.ptr(), key);
    return value == nullptr ? Watched() : Watched(value, key);
  };
  const Names& n = names();
  const py::dict options = slot.attr("group");
  projection = projection_of(options["projection"].cast<std::string>(), param.tensor);
  moment1 = of_state(method == Method::kAdamP ? n.exp_avg : n.momentum);
  if (method == Method::kAdamP) {
    moment2 = of_state(n.exp_avg_sq);
    step = of_state(n.step);
  }
  if (projection == Projection::kAuto) view = of_state(n.view);
  const at::IntArrayRef sizes = param.tensor.sizes(), strides = param.tensor.strides();
  sizes_and_strides_.assign(sizes.begin(), sizes.end());
  sizes_and_strides_.insert(sizes_and_strides_.end(), strides.begin(), strides.end());
  const py::object given = slot.attr("grad");
  if (given.is_none()) return;
  grad = THPVariable_Unpack(given.ptr());
  if (param.tensor.numel() > 0) grad_address = address_of(grad);
}

TensorInfo Entry::info() const {
  TensorInfo info = {};
  info.param = param.tensor.data_ptr();
  info.moment1 = moment1.tensor.data_ptr();
  if (moment2.object) info.moment2 = moment2.tensor.data_ptr();
  if (view.object) info.view = view.tensor.data_ptr<int32_t>();
  // Without a test of rows a tensor is one run of elements.
  info.rows = projection == Projection::kOff ? 1 : param.tensor.size(0);
  info.cols = info.rows == 0 ? 0 : param.tensor.numel() / info.rows;
  info.dtype = dtype_of(param.tensor);
  info.projection = projection;
  return info;
}

void Entry::ask_for() const {
  for (const Watched* watched : {&param, &moment1, &moment2, &step, &view}) {
    if (watched->object) watched->lies.ask_for();
  }
  if (last_grad_.tensor != nullptr) last_grad_.ask_for();
  __builtin_prefetch(step.data);
  __builtin_prefetch(state.ptr());
}

bool Entry::refresh() {
  const at::Tensor& now = param.tensor;
  const size_t dim = sizes_and_strides_.size() / 2;
  const at::IntArrayRef sizes(sizes_and_strides_.data(), dim);
  const at::IntArrayRef strides(sizes_and_strides_.data() + dim, dim);
  const at::Tensor& given = now.grad();
  if (param.moved() || !equal(now.sizes(), sizes) || !equal(now.strides(), strides) ||
      (given.defined() && !fits(given, now)) || !same_state()) {
    return false;
  }
  // A count below 0, or none, was written into it: of that too the checks will tell.
  if (given.defined() && step.object && !(count() >= 0)) return false;
  grad = given;
  if (given.defined()) last_grad_ = Whereabouts::of(given);
  const bool has_work = given.defined() && now.numel() > 0;
  grad_address = has_work ? address_of(given) : nullptr;
  // Without memory, which the checks of a new plan will say.
  return !has_work || grad_address != nullptr;
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

double Entry::count() const {
  return step.tensor.scalar_type() == at::kDouble ? *static_cast<const double*>(step.data)
                                                  : *static_cast<const float*>(step.data);
}

double Entry::next_count() const {
  if (!grad.defined() || !step.object) return 0;
  return step.tensor.scalar_type() == at::kDouble ? count() + 1
                                                  : static_cast<float>(count()) + 1.0f;
}

void Entry::end_step() {
  if (!grad.defined()) return;
  const auto written = [](const Watched& watched) {
    if (watched.object) watched.tensor.unsafeGetTensorImpl()->bump_version();
  };
  if (step.object) {
    void* const at = const_cast<void*>(step.data);
    step.tensor.scalar_type() == at::kDouble ? ++*static_cast<double*>(at)
                                             : ++*static_cast<float*>(at);
    written(step);
  }
  if (grad_address != nullptr) {
    for (const Watched* watched : {&param, &moment1, &moment2, &view}) written(*watched);
  }
  grad = at::Tensor();
}

}  // namespace adamp
