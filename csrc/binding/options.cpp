#include "options.h"

#include <torch/csrc/autograd/python_variable.h>

#include <cmath>

#include "names.h"

namespace adamp {
namespace {

// Interned once: dictionary look-ups by identity.
struct OptionNames {
  PyObject* lr = interned("lr");
  PyObject* betas = interned("betas");
  PyObject* eps = interned("eps");
  PyObject* weight_decay = interned("weight_decay");
  PyObject* delta = interned("delta");
  PyObject* wd_ratio = interned("wd_ratio");
  PyObject* nesterov = interned("nesterov");
  PyObject* maximize = interned("maximize");
  PyObject* projection = interned("projection");
  PyObject* capturable = interned("capturable");
  PyObject* momentum = interned("momentum");
  PyObject* dampening = interned("dampening");
  PyObject* project_buffer = interned("project_buffer");
};

const OptionNames& option_names() {
  static const OptionNames value;
  return value;
}

// All readers return false, and leave no Python error, where an option is not what it must be:
// the checks of a new plan say what is wrong.

// A number of a parameter group, or a tensor of one.
bool read_number(PyObject* group, PyObject* key, double& value, double least = 0) {
  PyObject* object = PyDict_GetItem(group, key);
  if (object == nullptr) return false;
  value = PyFloat_AsDouble(object);
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    return false;
  }
  return value >= least;
}

bool read_flag(PyObject* group, PyObject* key, int8_t& value) {
  PyObject* object = PyDict_GetItem(group, key);
  value = object == nullptr || PyUnicode_Check(object) ? -1 : PyObject_IsTrue(object);
  PyErr_Clear();
  return value >= 0;
}

// The options of a method of its own, two numbers and what follows from them. A new method has
// these two functions, too.
void set_own(AdamP, double beta1, double beta2, Hyper& h) {
  h.beta1 = beta1;
  h.beta2 = beta2;
  h.one_minus_beta1 = 1 - beta1;
}

void set_own(SGDP, double momentum, double dampening, Hyper& h) {
  h.beta1 = momentum;
  h.one_minus_beta1 = 1 - dampening;
  // Without a decay any momentum will do, of which 1 would give 0 * infinity.
  const bool decays = h.numbers.weight_decay != 0 || h.device_weight_decay != nullptr;
  if (decays) h.decay_factor = 1 / (1 - momentum);
}

// AdamP: betas, any sequence of two numbers.
bool read_own(AdamP, PyObject* group, Hyper& h) {
  PyObject* betas = PyDict_GetItem(group, option_names().betas);
  if (betas == nullptr || !(PySequence_Check(betas) || THPVariable_Check(betas))) return false;
  PyObject* pair = PySequence_Fast(betas, "");
  bool ok = pair != nullptr && PySequence_Fast_GET_SIZE(pair) == 2;
  double beta1 = 0, beta2 = 0;
  if (ok) {
    beta1 = PyFloat_AsDouble(PySequence_Fast_GET_ITEM(pair, 0));
    beta2 = PyFloat_AsDouble(PySequence_Fast_GET_ITEM(pair, 1));
    ok = !PyErr_Occurred() && beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1;
  }
  Py_XDECREF(pair);
  PyErr_Clear();
  set_own(AdamP(), beta1, beta2, h);
  return ok;
}

bool read_own(SGDP, PyObject* group, Hyper& h) {
  double momentum = 0, dampening = 0;
  if (!read_number(group, option_names().momentum, momentum) || !std::isfinite(momentum) ||
      !read_number(group, option_names().dampening, dampening, -HUGE_VAL) ||
      !std::isfinite(dampening) ||
      !read_flag(group, option_names().project_buffer, h.project_buffer)) {
    return false;
  }
  set_own(SGDP(), momentum, dampening, h);
  return h.decay_factor > 0 && std::isfinite(h.decay_factor);  // of a momentum below 1
}

// Whether torch's options for how to step want what the kernels do, or say nothing.
bool asks_for_kernels(PyObject* group) {
  static PyObject* const fused = PyUnicode_InternFromString("fused");
  static PyObject* const foreach = PyUnicode_InternFromString("foreach");
  static PyObject* const differentiable = PyUnicode_InternFromString("differentiable");
  const auto asks_for = [group](PyObject* key, bool wanted) {
    PyObject* const object = PyDict_GetItemWithError(group, key);
    if (object == nullptr || object == Py_None || object == (wanted ? Py_True : Py_False)) {
      return true;
    }
    int8_t value = 0;
    return read_flag(group, key, value) && value == static_cast<int8_t>(wanted);
  };
  return asks_for(fused, true) && asks_for(foreach, false) && asks_for(differentiable, false);
}

// Whether the options of training in 16 bits, which is to come, say nothing.
bool asks_for_no_more(PyObject* group) {
  static PyObject* const state_dtype = PyUnicode_InternFromString("state_dtype");
  static PyObject* const master_weights = PyUnicode_InternFromString("master_weights");
  static PyObject* const stochastic = PyUnicode_InternFromString("stochastic_rounding");
  return PyDict_GetItem(group, state_dtype) == Py_None &&
         PyDict_GetItem(group, master_weights) == Py_False &&
         PyDict_GetItem(group, stochastic) == Py_False;
}

}  // namespace

Hyper hyper_of(Method method, const GroupNumbers& group) {
  Hyper h = {};
  h.numbers = {group.lr, group.weight_decay, 1, 1};
  h.device_lr = group.device_lr;
  h.device_weight_decay = group.device_weight_decay;
  h.decay_factor = 1;
  h.eps = group.eps;
  h.delta = group.delta;
  h.wd_ratio = group.wd_ratio;
  h.nesterov = group.nesterov;
  h.maximize = group.maximize;
  h.project_buffer = group.project_buffer;
  for_method(method, [&](auto m) { set_own(m, group.first, group.second, h); });
  return h;
}

Method method_named(const std::string& name) {
  for (const Method method : kMethods) {
    if (for_method(method, [&](auto m) { return name == decltype(m)::kName; })) return method;
  }
  throw std::invalid_argument("adamp_fused: there is no method named '" + name + "'");
}

// A number, or the address of a tensor that holds it on the device.
bool OptionReader::read_number_of_step(PyObject* group, PyObject* key, double& value,
                                       const float*& on_device) const {
  PyObject* object = PyDict_GetItem(group, key);
  if (device && object != nullptr && THPVariable_Check(object)) {
    const at::Tensor& number = THPVariable_Unpack(object);
    if (number.device() == *device && number.scalar_type() == at::kFloat && number.numel() == 1) {
      on_device = number.const_data_ptr<float>();
      return true;
    }
  }
  return read_number(group, key, value);
}

bool OptionReader::read(PyObject* group, const Planned& planned, Hyper& h) const {
  const OptionNames& n = option_names();
  h = {};
  h.decay_factor = 1;
  h.numbers.inv_bias_correction1 = h.numbers.inv_root_bias_correction2 = 1;
  int8_t capturable = 0;
  PyObject* const projection = PyDict_GetItem(group, n.projection);
  return projection != nullptr && PyUnicode_Check(projection) &&
         PyUnicode_Compare(projection, planned.projection.ptr()) == 0 &&
         read_number_of_step(group, n.lr, h.numbers.lr, h.device_lr) &&
         read_number_of_step(group, n.weight_decay, h.numbers.weight_decay,
                             h.device_weight_decay) &&
         read_number(group, n.eps, h.eps) && read_number(group, n.delta, h.delta) &&
         read_number(group, n.wd_ratio, h.wd_ratio) && read_flag(group, n.nesterov, h.nesterov) &&
         read_flag(group, n.maximize, h.maximize) && read_flag(group, n.capturable, capturable) &&
         capturable == planned.capturable && asks_for_kernels(group) && asks_for_no_more(group) &&
         for_method(method, [&](auto m) { return read_own(m, group, h); });
}

Planned Planned::of(PyObject* group) {
  int8_t capturable = 0;
  read_flag(group, option_names().capturable, capturable);
  PyObject* const projection = PyDict_GetItem(group, option_names().projection);
  return {pybind11::reinterpret_borrow<pybind11::object>(projection), capturable};
}

}  // namespace adamp
