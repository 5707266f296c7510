// One parameter of a plan, and whether its tensors still are what the plan was made for.
#pragma once

#include <ATen/core/Tensor.h>
#include <pybind11/pybind11.h>

#include "step_args.h"

namespace adamp {

// Where a tensor's data is: what data_ptr() says, without its calls.
const void* address_of(const at::Tensor& tensor);

// A Python tensor that the plan relies on, and where its data was when the plan was made.
struct Watched {
  PyObject* key = nullptr;  // in the state's dictionary
  pybind11::object object;  // null: there is none
  at::Tensor tensor;
  const void* data = nullptr;

  Watched() = default;
  explicit Watched(PyObject* object, PyObject* key = nullptr);
  bool moved() const { return object && address_of(tensor) != data; }
};

// A step of many small tensors is spent on looking at them: little is kept, and is looked at once.
struct Entry {
  // `slot`: an adamp_fused._backend.Slot.
  Entry(Method method, const pybind11::handle& slot);

  // Takes this step's gradient; false where the plan must be made anew.
  bool refresh();
  // Advances the step count, notes that everything else will be written, and returns the count (0:
  // none is kept).
  double begin_step();
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
};

}  // namespace adamp
