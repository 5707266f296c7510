// The plan object that Python holds: a tracker of the user's objects, and the step itself.
#pragma once

#include <optional>
#include <string>
#include <tuple>

#include "step_plan.h"
#include "tracker.h"

namespace adamp {

// Each step is refresh(), prepare(), run(); the first one, for which a plan was made, has no
// refresh(). run() calls prepare() where nobody else has.
class Plan {
 public:
  // method: its name. executor: see StepPlan; none where the caller makes the step itself, on
  // inputs(), before it calls run(). clips: see Control::max_norm. The others: see Tracker.
  Plan(const std::string& method, const std::optional<std::string>& executor,
       const pybind11::list& slots, const pybind11::list& groups, const pybind11::dict& state,
       bool clips);

  bool refresh(const pybind11::list& groups, const pybind11::dict& state);

  // What was last picked up, for a caller without an executor. Of each slot the address of its
  // gradient (int64; 0: there is nothing to do) and a row of what follows (int64): the scalars of
  // each group and step count (float64, the fields of Scalars in their order, then lr and
  // inv_bias_correction1 of StepNumbers), and the addresses of a learning rate and a weight decay
  // on the device (int64; 0: it is in the scalars, which are for a value of 1 otherwise).
  std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> inputs();

  // See StepPlan; prepare() calls it where there is an executor.
  bool follow_stream() { return step_.follow_stream(); }
  // control: an adamp_fused.backends.protocol.Control, or None.
  void prepare(const pybind11::object& control);
  // One step; of parameters that are parts of tensors (Slot.shard) what comes before their sums are
  // added up. finish() then makes the rest; it is called where there are such parameters, alone.
  void run();
  void finish();

 private:
  void gather();
  template <class Body>
  void without_gil(const Body& body) const;

  Method method_;
  bool has_executor_;
  Tracker tracker_;
  StepPlan step_;
  bool keeps_gil_;  // while a step runs
  bool prepared_ = false;
  bool made_ = true;  // by the last run()
};

}  // namespace adamp
