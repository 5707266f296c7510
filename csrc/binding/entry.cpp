#include "entry.h"

#include <torch/csrc/autograd/python_variable.h>

#include <stdexcept>

#include "names.h"

namespace py = pybind11;

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

Projection projection_of(const std::string& option, const c10::TensorImpl& param) {
  if (param.dim() < 2 || option == "off") return Projection::kOff;
  if (option == "channel") return Projection::kChannel;
  if (option == "layer") return Projection::kLayer;
  if (option == "auto") return Projection::kAuto;
  throw std::invalid_argument("adamp_fused: there is no projection named '" + option + "'");
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

c10::StorageImpl* storage_of(const c10::TensorImpl* tensor) {
  return tensor->unsafe_storage().unsafeGetStorageImpl();
}

template <class Byte>
Byte* address(Byte* storage, const c10::TensorImpl* tensor) {
  if (storage == nullptr) return nullptr;
  return storage + tensor->storage_offset() * static_cast<int64_t>(tensor->itemsize());
}

// Where a tensor's data is: what data_ptr() says, without its calls.
const void* address_to_read(const c10::TensorImpl* tensor) {
  return address(static_cast<const char*>(storage_of(tensor)->data()), tensor);
}

// The same for data that will be written. Memory shared with a lazy clone (copy on write) is
// copied first, so that the clone keeps its values.
void* address_to_write(const c10::TensorImpl* tensor) {
  return address(static_cast<char*>(storage_of(tensor)->mutable_data()), tensor);
}

}  // namespace

void StepLock::add(const c10::TensorImpl* tensor) {
  if (!needed) return;
  storages_.push_back(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(storage_of(tensor)));
}

void StepLock::add_param(PyObject* param) {
  if (needed) params_.push_back(py::reinterpret_borrow<py::object>(param));
}

void StepLock::clear() {
  storages_.clear();
  params_.clear();
}

PrefetchHint PrefetchHint::of(const c10::TensorImpl* tensor) {
  return {tensor, storage_of(tensor)};
}

// Only the ends of these objects are looked at: reference count, storage, version counter and
// Python object at the beginning of the tensor, offset and type at its end; the storage's
// reference count, address and flags at its beginning. An end may lie in two cache lines.
void PrefetchHint::prefetch() const {
  const auto fetch = [](const void* object, size_t offset) {
    __builtin_prefetch(static_cast<const char*>(object) + offset);
  };
  fetch(tensor, 8);
  fetch(tensor, 48);
  fetch(tensor, sizeof(c10::TensorImpl) - 32);
  fetch(tensor, sizeof(c10::TensorImpl) - 8);
  fetch(storage, 8);
  fetch(storage, 56);
}

Guard::Guard(PyObject* object, PyObject* key, StepLock& lock) : key(key), object(object) {
  const at::Tensor& tensor = THPVariable_Unpack(object);
  const c10::TensorImpl* const impl = tensor.unsafeGetTensorImpl();
  tensor_ = tensor.getIntrusivePtr();
  data = address_to_write(impl);
  hint = PrefetchHint::of(impl);
  lock.add(impl);
}

bool Guard::check(StepLock& lock) const {
  const c10::TensorImpl* const tensor = tensor_._unsafe_get_target();
  // The tensor's Python object is compared since another may have been given to `object`
  // (torch.utils.swap_tensors), or `object` may be new, at the address of the one that was.
  if (!alive() || tensor->pyobj_slot()->load_pyobj() != object) return false;
  if (address_to_write(tensor) != data) return false;
  lock.add(tensor);
  return true;
}

void Guard::bump_version() const {
  if (alive()) tensor_._unsafe_get_target()->bump_version();
}

bool Guard::is_double() const {
  return tensor_._unsafe_get_target()->dtype() == caffe2::TypeMeta::Make<double>();
}

ParamGuard::ParamGuard(PyObject* object, StepLock& lock)
    : object(object), type_(Py_TYPE(object)), hint_(PrefetchHint::of(&tensor())) {
  data = address_to_write(&tensor());
  dtype_ = tensor().dtype();
  const at::IntArrayRef sizes = tensor().sizes(), strides = tensor().strides();
  sizes_and_strides_.assign(sizes.begin(), sizes.end());
  sizes_and_strides_.insert(sizes_and_strides_.end(), strides.begin(), strides.end());
  lock.add(&tensor());
  lock.add_param(object);
}

bool ParamGuard::check(PyObject* now, StepLock& lock) const {
  if (now != object || Py_TYPE(now) != type_) return false;
  const size_t dim = sizes_and_strides_.size() / 2;
  const at::IntArrayRef sizes(sizes_and_strides_.data(), dim);
  const at::IntArrayRef strides(sizes_and_strides_.data() + dim, dim);
  if (address_to_write(&tensor()) != data || tensor().dtype() != dtype_ ||
      !equal(tensor().sizes(), sizes) || !equal(tensor().strides(), strides)) {
    return false;
  }
  lock.add(&tensor());
  lock.add_param(now);
  return true;
}

void ParamGuard::prefetch() const {
  __builtin_prefetch(reinterpret_cast<const char*>(object) + 16);
  hint_.prefetch();
}

const c10::TensorImpl& ParamGuard::tensor() const {
  return *THPVariable_Unpack(object).unsafeGetTensorImpl();
}

void ParamGuard::bump_version() const {
  THPVariable_Unpack(object).unsafeGetTensorImpl()->bump_version();
}

Entry::Entry(Method method, const py::handle& slot, StepLock& lock)
    : param(slot.attr("param").ptr(), lock), group(slot.attr("group_index").cast<int32_t>()) {
  const py::dict values = slot.attr("state");
  const auto of_state = [&](PyObject* key) {
    PyObject* const value = key == nullptr ? nullptr : PyDict_GetItem(values.ptr(), key);
    return value == nullptr ? Guard() : Guard(value, key, lock);
  };
  const py::dict options = slot.attr("group");
  projection = projection_of(options["projection"].cast<std::string>(), param.tensor());
  const StateKeys& keys = state_keys(method);
  moment1 = of_state(keys.moment1);
  moment2 = of_state(keys.moment2);
  step = of_state(keys.step);
  if (projection == Projection::kAuto) view = of_state(names().view);
  const py::object given = slot.attr("grad");
  if (given.is_none()) return;
  has_grad = true;
  const c10::TensorImpl* const grad = THPVariable_Unpack(given.ptr()).unsafeGetTensorImpl();
  if (param.tensor().numel() > 0) grad_address = address_to_read(grad);
  lock.add(grad);
}

TensorInfo Entry::info() const {
  const c10::TensorImpl& tensor = param.tensor();
  TensorInfo info = {};
  info.param = param.data;
  info.moment1 = moment1.data;
  info.moment2 = moment2.data;
  info.view = static_cast<int32_t*>(view.data);
  // Without a test of rows a tensor is one run of elements.
  info.rows = projection == Projection::kOff ? 1 : tensor.size(0);
  info.cols = info.rows == 0 ? 0 : tensor.numel() / info.rows;
  info.dtype = dtype_of(tensor);
  info.projection = projection;
  return info;
}

void Entry::prefetch() const {
  param.prefetch();
  for (const Guard* guard : {&moment1, &moment2, &step, &view}) {
    if (*guard) guard->hint.prefetch();
  }
  if (last_grad_.tensor != nullptr) last_grad_.prefetch();
  __builtin_prefetch(step.data);
  __builtin_prefetch(state);
}

bool Entry::refresh(PyObject* object, StepLock& lock) {
  if (!param.check(object, lock)) return false;
  const c10::TensorImpl& now = param.tensor();
  const at::Tensor& grad = now.grad();
  has_grad = grad.defined();
  if ((has_grad && !fits(grad, now)) || !check_state(lock)) return false;
  // A count below 0, or none, was written into it: of that too the checks will tell.
  if (has_grad && step && !(count() >= 0)) return false;
  grad_address = nullptr;
  if (!has_grad) return true;
  const c10::TensorImpl* const impl = grad.unsafeGetTensorImpl();
  last_grad_ = PrefetchHint::of(impl);
  if (now.numel() == 0) return true;
  grad_address = address_to_read(impl);
  lock.add(impl);
  // Without memory, which the checks of a new plan will say.
  return grad_address != nullptr;
}

// Whether every tensor of the state is the one it was, where it was.
bool Entry::check_state(StepLock& lock) const {
  const Guard* const all[] = {&moment1, &moment2, &step, &view};
  int wanted = 0, found = 0;
  for (const Guard* guard : all) wanted += static_cast<bool>(*guard);
  // The keys nearly always are the very strings that we know: then no hash has to be looked up.
  Py_ssize_t position = 0;
  PyObject *key, *value;
  while (PyDict_Next(state, &position, &key, &value)) {
    for (const Guard* guard : all) {
      if (key != guard->key) continue;
      if (value != guard->object || !guard->check(lock)) return false;
      ++found;
    }
  }
  if (found == wanted) return true;
  for (const Guard* guard : all) {
    if (*guard && (PyDict_GetItem(state, guard->key) != guard->object || !guard->check(lock))) {
      return false;
    }
  }
  return true;
}

double Entry::count() const {
  return step.is_double() ? *static_cast<const double*>(step.data)
                          : *static_cast<const float*>(step.data);
}

double Entry::next_count() const {
  if (!has_grad || !step) return 0;
  return step.is_double() ? count() + 1 : static_cast<float>(count()) + 1.0f;
}

void Entry::end_step() {
  if (!has_grad) return;
  if (step) {
    step.is_double() ? ++*static_cast<double*>(step.data) : ++*static_cast<float*>(step.data);
    step.bump_version();
  }
  if (grad_address == nullptr) return;
  param.bump_version();
  for (const Guard* guard : {&moment1, &moment2, &view}) {
    if (*guard) guard->bump_version();
  }
}

}  // namespace adamp
