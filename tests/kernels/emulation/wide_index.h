// Element indices beyond 2^32, in a few pages of memory.
#pragma once

#include <string>

namespace emulation {

// Runs a plan whose only tiles are the first and the last of a tensor of 3 * 2^31 elements. What is
// wrong, or "".
std::string check_wide_index();

// Looks at the tiles and the scratch memory that tensors of such sizes are given. What is wrong, or
// "".
std::string check_wide_tables();

}  // namespace emulation
