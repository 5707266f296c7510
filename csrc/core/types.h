// The storage types of a tensor's arrays. All are equal so far.
#pragma once

namespace adamp {

template <class Param, class Grad = Param, class State = Param>
struct Types {
  using param_t = Param;
  using grad_t = Grad;
  using state_t = State;  // of the moments
};

}  // namespace adamp
