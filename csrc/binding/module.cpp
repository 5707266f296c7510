// The extension module adamp_fused._C.
#include <ATen/record_function.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "../cpu/row_loops.h"
#include "plan.h"

namespace py = pybind11;

// Found in the module's file before the module is loaded: see adamp_fused/_built_for.py.
__attribute__((used)) static const char kBuiltFor[] = ADAMP_FUSED_BUILT_FOR;

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.doc() = "Native kernels of adamp_fused.";
  module.attr("built_for") = kBuiltFor;
#if defined(ADAMP_FUSED_WITH_CUDA)
  module.attr("cuda_archs") = ADAMP_FUSED_CUDA_ARCHS;
  const std::vector<std::string> executors = {"cuda", "cpu"};
#else
  module.attr("cuda_archs") = "";
  const std::vector<std::string> executors = {"cpu"};
#endif
  module.attr("executors") = executors;
  module.def("has_observers", &at::hasCallbacks, "Whether a profiler, or the like, is there.");
  module.def("cpu_capability", &adamp::cpu_capability,
             "The instruction set that the CPU kernels use on this CPU.");
  py::class_<adamp::Plan>(module, "Plan",
                          "What does not change between steps, and the step itself.")
      .def(py::init<const std::string&, const std::optional<std::string>&, const py::list&,
                    const py::list&, const py::dict&, bool>(),
           py::arg("method"), py::arg("executor"), py::arg("slots"), py::arg("groups"),
           py::arg("state"), py::arg("clips") = false)
      .def("refresh", &adamp::Plan::refresh, py::arg("groups"), py::arg("state"),
           "Pick up gradients and options; False where the plan must be made anew.")
      .def("inputs", &adamp::Plan::inputs,
           "What was last picked up, for a caller that steps by itself before it calls run().")
      .def("follow_stream", &adamp::Plan::follow_stream,
           "Order this step behind the last one where the stream has changed; whether it has.")
      .def("prepare", &adamp::Plan::prepare, py::arg("control") = py::none(),
           "All of a step that may fail.")
      .def("run", &adamp::Plan::run,
           "Perform one step on what was last picked up; of shards, the part before their sums.")
      .def("finish", &adamp::Plan::finish, "The rest of a step that has shards.");
}
