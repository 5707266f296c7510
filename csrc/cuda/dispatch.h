// From a method and a set of types, known when the program runs, to template arguments.
#pragma once

#include <type_traits>

#include "kernel_args.h"

namespace adamp {

// body(AdamP() or SGDP(), integral_constant<TypeSet, ...>).
template <class Body>
decltype(auto) for_kernel(Method method, TypeSet types, const Body& body) {
  return for_method(method, [&](auto m) -> decltype(auto) {
    switch (types) {
      case TypeSet::kFloat32:
        return body(m, std::integral_constant<TypeSet, TypeSet::kFloat32>());
      case TypeSet::kNarrow:
        return body(m, std::integral_constant<TypeSet, TypeSet::kNarrow>());
      case TypeSet::kAll:
        return body(m, std::integral_constant<TypeSet, TypeSet::kAll>());
    }
    throw std::invalid_argument("adamp_fused: an unknown set of types");
  });
}

}  // namespace adamp
