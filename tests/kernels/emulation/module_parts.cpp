// What the extension module needs besides the step on the emulated device.
#include <stdexcept>

#include "../../../csrc/cpu/row_loops.h"
#include "runtime_emulated.h"

namespace adamp {

// The module is for the other executor.
std::unique_ptr<Executor> make_cpu_executor(Method, std::vector<TensorInfo>, bool, Team) {
  throw std::invalid_argument("the emulation has no CPU executor");
}
const char* cpu_capability() { return "emulated"; }

}  // namespace adamp

// For ctypes: how the next launches are scheduled.
extern "C" __attribute__((visibility("default"))) void emulation_set_device(uint64_t seed,
                                                                            int blocks,
                                                                            int resident) {
  emulation::device().blocks = blocks;
  emulation::device().schedule.seed = seed;
  emulation::device().schedule.resident = resident;
}

// For ctypes: how often the values of a step came by a copy, not in the launch.
extern "C" __attribute__((visibility("default"))) int64_t emulation_staged_copies() {
  return emulation::device().staged_copies;
}

// For ctypes: a graph. Between the first two calls nothing runs; the third runs all of it once.
extern "C" __attribute__((visibility("default"))) void emulation_begin_capture() {
  emulation::device().graph.clear();
  emulation::device().capturing = true;
}
extern "C" __attribute__((visibility("default"))) void emulation_end_capture() {
  emulation::device().capturing = false;
}
extern "C" __attribute__((visibility("default"))) int emulation_replay() {
  for (const auto& node : emulation::device().graph) node();
  return static_cast<int>(emulation::device().graph.size());
}
