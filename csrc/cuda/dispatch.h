// From a method and a set of types, known when the program runs, to template arguments.
#pragma once

#include <type_traits>

#include "kernel_args.h"

namespace adamp {

template <Method kMethod, class Body>
auto for_types(TypeSet types, const Body& body) {
  const std::integral_constant<Method, kMethod> method;
  switch (types) {
    case TypeSet::kFloat32:
      return body(method, std::integral_constant<TypeSet, TypeSet::kFloat32>());
    case TypeSet::kNarrow:
      return body(method, std::integral_constant<TypeSet, TypeSet::kNarrow>());
    default:
      return body(method, std::integral_constant<TypeSet, TypeSet::kAll>());
  }
}

// body(integral_constant<Method, ...>, integral_constant<TypeSet, ...>).
template <class Body>
auto for_kernel(Method method, TypeSet types, const Body& body) {
  return method == Method::kAdamP ? for_types<Method::kAdamP>(types, body)
                                  : for_types<Method::kSGDP>(types, body);
}

}  // namespace adamp
