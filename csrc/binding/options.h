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

struct OptionReader {
  Method method;
  // A learning rate in this device's memory is left there for the kernel: asking for its value
  // would wait. None: it is read here.
  std::optional<at::Device> lr_device;

  // False (and no Python error) where an option is missing or out of range, or `projection` is not
  // the group's; Python then finds out what is wrong.
  bool read(PyObject* group, PyObject* projection, Hyper& h) const;

 private:
  bool read_lr(PyObject* group, Hyper& h) const;
};

}  // namespace adamp
