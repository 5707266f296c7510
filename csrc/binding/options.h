// The options of a parameter group, read from its dictionary.
#pragma once

#include <ATen/core/Tensor.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>

#include "../core/params.h"

namespace adamp {

// The method of that name; throws where there is none.
Method method_named(const std::string& name);

// The options of a group that a plan is made for.
struct Planned {
  pybind11::object projection;
  int8_t capturable;

  static Planned of(PyObject* group);
};

// The same as plain numbers.
struct GroupNumbers {
  double lr, weight_decay;
  const float *device_lr, *device_weight_decay;  // as in Hyper
  double eps, delta, wd_ratio;
  double first, second;  // AdamP: betas; SGDP: momentum and dampening
  bool nesterov, maximize, project_buffer;
};
Hyper hyper_of(Method method, const GroupNumbers& group);

struct OptionReader {
  Method method;
  // A learning rate or a weight decay in this device's memory is left there for the kernel: asking
  // for its value would wait. None: it is read here.
  std::optional<at::Device> device;

  // False (and no Python error) where an option is missing or out of range, or is not what was
  // planned for; Python then finds out what is wrong.
  bool read(PyObject* group, const Planned& planned, Hyper& h) const;

 private:
  bool read_number_of_step(PyObject* group, PyObject* key, double& value,
                           const float*& on_device) const;
};

}  // namespace adamp
