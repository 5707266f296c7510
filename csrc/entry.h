// One parameter of a plan, and whether its tensors still are what the plan was made for.
#pragma once

#include <ATen/core/Tensor.h>
#include <pybind11/pybind11.h>

#include "step_args.h"

namespace adamp {

// Where a tensor's data is: what data_ptr() says, without its calls.
const void* address_of(const at::Tensor& tensor);

// Where a tensor's fields and its storage's lie. Asking for them reads nothing: the tensor may be
// gone.
struct Whereabouts {
  const void *tensor = nullptr, *storage = nullptr;

  static Whereabouts of(const at::Tensor& tensor);
  void ask_for() const;
};

// A Python tensor that the plan relies on, and where its data was when the plan was made.
struct Watched {
  PyObject* key = nullptr;  // in the state's dictionary
  pybind11::object object;  // null: there is none
  at::Tensor tensor;
  const void* data = nullptr;
  Whereabouts lies;

  Watched() = default;
  explicit Watched(PyObject* object, PyObject* key = nullptr);
  bool moved() const { return object && address_of(tensor) != data; }
};

// A step of many small tensors is spent on looking at them: little is kept, and is looked at once.
struct Entry {
  // `slot`: an adamp_fused._backend.Slot.
  Entry(Method method, const pybind11::handle& slot);

  // Asks for what refresh() and end_step() look at to be in cache.
  void ask_for() const;
  // Takes this step's gradient; false where the plan must be made anew.
  bool refresh();
  // The step count after this step; 0 where none is kept, or there is no gradient.
  double next_count() const;
  // After it: advances the step count, notes that everything else has been written, and lets go of
  // the gradient, which belongs to the user: zero_grad must be able to free it.
  void end_step();
  TensorInfo info() const;

  Watched param, moment1, moment2, step, view;
  at::Tensor grad;                     // this step's; undefined where there is none
  const void* grad_address = nullptr;  // null: nothing to do
  pybind11::dict state;
  int32_t group;
  Projection projection;

 private:
  bool same_state() const;
  double count() const;  // what `step` holds

  std::vector<int64_t> sizes_and_strides_;
  Whereabouts last_grad_;
};

}  // namespace adamp
