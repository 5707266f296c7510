// Weak references to the user's tensors, which tell whether a tensor still is what a plan was made
// for, and a lock that keeps memory alive while a step runs.
#pragma once

#include <ATen/core/Tensor.h>
#include <pybind11/pybind11.h>
#include <torch/csrc/autograd/python_variable.h>

#include <vector>

namespace adamp {

// Like ==, which calls memcmp for a handful of numbers.
inline bool equal(at::IntArrayRef a, at::IntArrayRef b) {
  if (a.size() != b.size()) return false;
  for (size_t d = 0; d < a.size(); ++d) {
    if (a[d] != b[d]) return false;
  }
  return true;
}

inline c10::StorageImpl* storage_of(const c10::TensorImpl* tensor) {
  return tensor->unsafe_storage().unsafeGetStorageImpl();
}

template <class Byte>
Byte* address(Byte* storage, const c10::TensorImpl* tensor) {
  if (storage == nullptr) return nullptr;
  return storage + tensor->storage_offset() * static_cast<int64_t>(tensor->itemsize());
}

// Where a tensor's data is: what data_ptr() says, without its calls.
inline const void* address_to_read(const c10::TensorImpl* tensor) {
  return address(static_cast<const char*>(storage_of(tensor)->data()), tensor);
}

// The same for data that will be written. Memory shared with a lazy clone (copy on write) is
// copied first, so that the clone keeps its values.
inline void* address_to_write(const c10::TensorImpl* tensor) {
  return address(static_cast<char*>(storage_of(tensor)->mutable_data()), tensor);
}

// What a step reads and writes. It stays alive from the moment its address is read until the step
// has ended, whatever another Python thread does meanwhile.
class StepLock {
 public:
  // Where no other Python thread can run before the step has ended, nothing needs to be locked: six
  // counts a tensor, up and down, are 8 % of a step of 1,000 tensors of 16 x 16 on a CPU.
  bool needed = true;

  void add(const c10::TensorImpl* tensor);
  void add_param(PyObject* param);
  void clear();

 private:
  std::vector<c10::intrusive_ptr<c10::StorageImpl>> storages_;
  std::vector<pybind11::object> params_;
};

// Where a tensor's fields and its storage's lie. To prefetch them reads nothing: the tensor may be
// gone.
struct PrefetchHint {
  const void *tensor = nullptr, *storage = nullptr;

  static PrefetchHint of(const c10::TensorImpl* tensor);
  void prefetch() const;
};

// A tensor of the state that the plan relies on, and where its data was when the plan was made.
//
// The reference is weak. A strong one would keep memory that the user has let go, and would hide
// reference cycles from the garbage collector.
class Guard {
 public:
  Guard() = default;
  Guard(PyObject* object, PyObject* key, StepLock& lock);

  explicit operator bool() const { return object != nullptr; }
  // Whether `object`, which must be what the caller has just found, is the tensor that it was, and
  // has its data where that was. Locks its storage.
  bool check(StepLock& lock) const;
  // Tells autograd that the tensor was written.
  void bump_version() const;
  bool is_double() const;

  PyObject* key = nullptr;     // in the state's dictionary
  PyObject* object = nullptr;  // to compare with only; null: there is no such tensor
  void* data = nullptr;
  PrefetchHint hint;

 private:
  bool alive() const { return tensor_.use_count() > 0; }

  // While a weak reference is there the tensor's fields are, and no other tensor has their address.
  c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> tensor_{
      c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>()};
};

// The parameter itself, to which there is no reference at all: torch swaps no tensor that has a
// weak one. It is found anew in its group at every step, and compared in all that the plan knows
// of it.
class ParamGuard {
 public:
  ParamGuard(PyObject* object, StepLock& lock);

  // Whether `now`, a parameter that a group lists, is one that the plan serves. Locks it.
  bool check(PyObject* now, StepLock& lock) const;
  void prefetch() const;
  // Of a parameter that is locked.
  const c10::TensorImpl& tensor() const;
  void bump_version() const;

  PyObject* object;  // borrowed
  void* data;

 private:
  PyTypeObject* type_;
  caffe2::TypeMeta dtype_;
  std::vector<int64_t> sizes_and_strides_;
  PrefetchHint hint_;
};

// In the header, so that a step over many small tensors calls none of them.

inline void StepLock::add(const c10::TensorImpl* tensor) {
  if (!needed) return;
  storages_.push_back(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(storage_of(tensor)));
}

inline void StepLock::add_param(PyObject* param) {
  if (needed) params_.push_back(pybind11::reinterpret_borrow<pybind11::object>(param));
}

inline void StepLock::clear() {
  storages_.clear();
  params_.clear();
}

inline PrefetchHint PrefetchHint::of(const c10::TensorImpl* tensor) {
  return {tensor, storage_of(tensor)};
}

// Only the ends of these objects are looked at: reference count, storage, version counter and
// Python object at the beginning of the tensor, offset and type at its end; the storage's
// reference count, address and flags at its beginning. An end may lie in two cache lines.
inline void PrefetchHint::prefetch() const {
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

inline Guard::Guard(PyObject* object, PyObject* key, StepLock& lock) : key(key), object(object) {
  const at::Tensor& tensor = THPVariable_Unpack(object);
  const c10::TensorImpl* const impl = tensor.unsafeGetTensorImpl();
  tensor_ = tensor.getIntrusivePtr();
  data = address_to_write(impl);
  hint = PrefetchHint::of(impl);
  lock.add(impl);
}

inline bool Guard::check(StepLock& lock) const {
  const c10::TensorImpl* const tensor = tensor_._unsafe_get_target();
  // The tensor's Python object is compared since another may have been given to `object`
  // (torch.utils.swap_tensors), or `object` may be new, at the address of the one that was.
  if (!alive() || tensor->pyobj_slot()->load_pyobj() != object) return false;
  if (address_to_write(tensor) != data) return false;
  lock.add(tensor);
  return true;
}

inline void Guard::bump_version() const {
  if (alive()) tensor_._unsafe_get_target()->bump_version();
}

inline bool Guard::is_double() const {
  return tensor_._unsafe_get_target()->dtype() == caffe2::TypeMeta::Make<double>();
}

inline ParamGuard::ParamGuard(PyObject* object, StepLock& lock)
    : object(object), type_(Py_TYPE(object)), hint_(PrefetchHint::of(&tensor())) {
  data = address_to_write(&tensor());
  dtype_ = tensor().dtype();
  const at::IntArrayRef sizes = tensor().sizes(), strides = tensor().strides();
  sizes_and_strides_.assign(sizes.begin(), sizes.end());
  sizes_and_strides_.insert(sizes_and_strides_.end(), strides.begin(), strides.end());
  lock.add(&tensor());
  lock.add_param(object);
}

inline bool ParamGuard::check(PyObject* now, StepLock& lock) const {
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

inline void ParamGuard::prefetch() const {
  __builtin_prefetch(reinterpret_cast<const char*>(object) + 16);
  hint_.prefetch();
}

inline const c10::TensorImpl& ParamGuard::tensor() const {
  return *THPVariable_Unpack(object).unsafeGetTensorImpl();
}

inline void ParamGuard::bump_version() const {
  THPVariable_Unpack(object).unsafeGetTensorImpl()->bump_version();
}

}  // namespace adamp
