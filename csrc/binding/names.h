// Option and state names as Python strings, interned once: dictionary look-ups by identity.
#pragma once

#include <Python.h>

namespace adamp {

struct Names {
  static PyObject* name(const char* text) { return PyUnicode_InternFromString(text); }

  PyObject* params = name("params");
  PyObject* lr = name("lr");
  PyObject* betas = name("betas");
  PyObject* eps = name("eps");
  PyObject* weight_decay = name("weight_decay");
  PyObject* delta = name("delta");
  PyObject* wd_ratio = name("wd_ratio");
  PyObject* nesterov = name("nesterov");
  PyObject* maximize = name("maximize");
  PyObject* projection = name("projection");
  PyObject* capturable = name("capturable");
  PyObject* momentum = name("momentum");
  PyObject* dampening = name("dampening");
  PyObject* project_buffer = name("project_buffer");
  PyObject* step = name("step");
  PyObject* exp_avg = name("exp_avg");
  PyObject* exp_avg_sq = name("exp_avg_sq");
  PyObject* view = name("view");
};

inline const Names& names() {
  static const Names value;
  return value;
}

}  // namespace adamp
