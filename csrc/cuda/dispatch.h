// From the choice of a kernel, known when the program runs, to template arguments.
#pragma once

#include <type_traits>

#include "kernel_args.h"

namespace adamp {

// body(AdamP() or SGDP(), integral_constant<TypeSet, ...>), or the same with a Measured method.
template <class Body>
decltype(auto) for_kernel(const KernelChoice& choice, const Body& body) {
  const auto with_types = [&](auto m) -> decltype(auto) {
    switch (choice.types) {
      case TypeSet::kFloat32:
        return body(m, std::integral_constant<TypeSet, TypeSet::kFloat32>());
      case TypeSet::kNarrow:
        return body(m, std::integral_constant<TypeSet, TypeSet::kNarrow>());
      case TypeSet::kAll:
        return body(m, std::integral_constant<TypeSet, TypeSet::kAll>());
    }
    throw std::invalid_argument("adamp_fused: an unknown set of types");
  };
  return for_method(choice.method, [&](auto m) -> decltype(auto) {
    return choice.measures ? with_types(Measured<decltype(m)>()) : with_types(m);
  });
}

}  // namespace adamp
