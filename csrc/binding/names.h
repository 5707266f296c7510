// Option and state names as Python strings, interned once: dictionary look-ups by identity.
#pragma once

#include <Python.h>

#include "../core/methods.h"

namespace adamp {

inline PyObject* interned(const char* text) { return PyUnicode_InternFromString(text); }

struct Names {
  PyObject* params = interned("params");
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
  PyObject* view = interned("view");
};

inline const Names& names() {
  static const Names value;
  return value;
}

// The keys of a method's state; null: it has no such tensor.
struct StateKeys {
  PyObject *moment1, *moment2, *step;
};

inline const StateKeys& state_keys(Method method) {
  return for_method(method, [](auto m) -> const StateKeys& {
    using M = decltype(m);
    static const StateKeys keys = {interned(M::kMoments[0]),
                                   kTwoMoments<M> ? interned(M::kMoments[kTwoMoments<M>]) : nullptr,
                                   M::kCountsSteps ? interned("step") : nullptr};
    return keys;
  });
}

}  // namespace adamp
