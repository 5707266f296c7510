// What measured kernels leave for optimizer.stats(), compared with the oracle's.
#pragma once

#include <string>

#include "../../../csrc/core/params.h"

namespace emulation {

constexpr int kStatFields = sizeof(adamp::TensorStats) / sizeof(double);

// What differs by more than rounding, of a tensor of this type, or "".
std::string check_stats(const adamp::TensorStats& got, const adamp::TensorStats& want,
                        adamp::DType dtype);

}  // namespace emulation
