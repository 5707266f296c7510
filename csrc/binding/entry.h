// One parameter of a plan, and whether its tensors still are what the plan was made for.
#pragma once

#include <ATen/core/Tensor.h>
#include <pybind11/pybind11.h>

#include "../core/params.h"

namespace adamp {

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

// A step of many small tensors is spent on looking at them: little is kept, and is looked at once.
struct Entry {
  // `slot`: an adamp_fused.backends.protocol.Slot.
  Entry(Method method, const pybind11::handle& slot, StepLock& lock);

  // Prefetches what refresh() and end_step() look at.
  void prefetch() const;
  // Takes this step's gradient; false where the plan must be made anew. `object` is the parameter
  // that the group lists now, `state` its state now.
  bool refresh(PyObject* object, StepLock& lock);
  // The step count after this step; 0 where none is kept, or there is no gradient.
  double next_count() const;
  // After it: advances the step count and notes that everything else has been written.
  void end_step();
  TensorInfo info() const;

  ParamGuard param;
  Guard moment1, moment2, step, view;
  PyObject* state = nullptr;           // the dictionary; borrowed, and found anew at every step
  const void* grad_address = nullptr;  // null: nothing to do
  bool has_grad = false;
  int32_t group;
  Projection projection;

 private:
  bool check_state(StepLock& lock) const;
  double count() const;  // what `step` holds

  PrefetchHint last_grad_;
};

}  // namespace adamp
