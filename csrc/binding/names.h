// Keys of groups and states as Python strings, interned once: dictionary look-ups by identity.
// Those of options are in options.cpp.
#pragma once

#include <Python.h>

#include "../core/methods.h"

namespace adamp {

inline PyObject* interned(const char* text) { return PyUnicode_InternFromString(text); }

struct Names {
  PyObject* params = interned("params");
  PyObject* view = interned("view");
  PyObject* stats = interned("stats");
  // Of a DTensor, and of its _spec.
  PyObject* local_tensor = interned("_local_tensor");
  PyObject* spec = interned("_spec");
  PyObject* placements = interned("placements");
  PyObject* device_mesh = interned("mesh");
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
