// Sharded parameters (torch.distributed.tensor.DTensor): the tensor that is here, and how the whole
// is shared out. DTensor is a class of Python's: its attributes are all that is known of it.
#pragma once

#include <pybind11/pybind11.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/pybind.h>

#include "../core/params.h"
#include "names.h"

namespace adamp {

// A new reference to an attribute; null, and no Python error, where there is none.
inline pybind11::object attribute(PyObject* object, PyObject* name) {
  PyObject* const value = PyObject_GetAttr(object, name);
  if (value == nullptr) PyErr_Clear();
  return pybind11::reinterpret_steal<pybind11::object>(value);
}

// The tensor that a DTensor has here; null where `object` is none, or its tensor is not there yet
// (one that a collective is still to bring is of another class).
inline pybind11::object local_tensor_of(PyObject* object) {
  pybind11::object local = attribute(object, names().local_tensor);
  const bool is_plain =
      local && reinterpret_cast<PyObject*>(Py_TYPE(local.ptr())) == THPVariableClass;
  return is_plain ? local : pybind11::object();
}

// How a parameter is shared out, to compare with how its gradients are.
class DTensorSpec {
 public:
  explicit DTensorSpec(PyObject* param) : own_(attribute(param, names().spec)), last_(own_) {}

  // Whether a gradient is shared out as the parameter is. FSDP2 gives both the same object, others
  // an equal one, often the same at each step.
  bool check(PyObject* grad) {
    const pybind11::object spec = attribute(grad, names().spec);
    if (spec.is(own_) || spec.is(last_)) return true;
    if (!spec) return false;
    for (PyObject* const name : {names().placements, names().device_mesh}) {
      const pybind11::object now = attribute(spec.ptr(), name), own = attribute(own_.ptr(), name);
      if (!now || !own) return false;
      const int equal = PyObject_RichCompareBool(now.ptr(), own.ptr(), Py_EQ);
      if (equal < 0) PyErr_Clear();
      if (equal != 1) return false;
    }
    last_ = spec;
    return true;
  }

 private:
  pybind11::object own_, last_;
};

// What a plan keeps of a DTensor beside the tensor that is here.
struct DTensorPart {
  explicit DTensorPart(PyObject* param) : param(param), spec(param) {}

  // shard: an adamp_fused.backends.protocol.Shard.
  void set_shard(const pybind11::object& shard_of) {
    sums = shard_of.attr("sums").cast<at::Tensor>();
    shard.sums = reinterpret_cast<ShardSums*>(sums.mutable_data_ptr<double>());
    if (const pybind11::object rows = shard_of.attr("row_sums"); !rows.is_none()) {
      row_sums = rows.cast<at::Tensor>();
      shard.row_sums = row_sums.mutable_data_ptr<double>();
    }
    if (const pybind11::object of_stats = shard_of.attr("stats"); !of_stats.is_none()) {
      stats = of_stats.cast<at::Tensor>();
      max_cosine = shard_of.attr("max_cosine").cast<at::Tensor>();
      shard.stats = reinterpret_cast<ShardStats*>(stats.mutable_data_ptr<double>());
      shard.max_cosine = max_cosine.mutable_data_ptr<double>();
    }
    shard.cols = shard_of.attr("row_length").cast<int64_t>();
    shard.numel = shard_of.attr("numel").cast<int64_t>();
  }

  PyObject* param;  // borrowed, and found anew at every step
  DTensorSpec spec;
  Shard shard = {};
  at::Tensor sums, row_sums, stats, max_cosine;  // what `shard` points to
};

}  // namespace adamp
