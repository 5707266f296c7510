// The plan object that Python holds: the last place that sees tensors.
#pragma once

#include <c10/core/Event.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "entry.h"
#include "options.h"

namespace adamp {

// Keeps what does not change between steps (shapes, addresses, work items) and notices when it
// does. What belongs to the user is kept alive from refresh() to run(), and not between steps.
// Each step is refresh(), prepare(), run(); the first one, for which a plan was made, has no
// refresh().
class Plan {
 public:
  // slots: adamp_fused._backend.Slot objects, all on one device, checked, and laid out in rows.
  // executor: none where the caller steps by itself, on inputs(), before it calls run().
  Plan(const std::string& method, const std::optional<std::string>& executor,
       const pybind11::list& slots, const pybind11::list& groups, const pybind11::dict& state);

  // Picks up gradients and options; false where the plan must be made anew. Changes nothing of the
  // user's.
  bool refresh(const pybind11::list& groups, const pybind11::dict& state);

  // What was last picked up: int64 tensors with, for each slot, the address of its gradient (0:
  // nothing to do) and an index into the last, a list of (group, step count after this step).
  std::tuple<at::Tensor, at::Tensor, std::vector<std::pair<int32_t, double>>> inputs();

  // Makes the current stream wait for the last step where that ran on another one, and tells the
  // allocator that the plan's memory is used there. Whether the stream has changed. Called by
  // prepare() where there is an executor.
  bool follow_stream();

  // All of a step that may fail, so that no plan has changed anything when another one fails.
  // run() calls it where nobody else has.
  void prepare();

  // One step on what was last picked up.
  void run();

 private:
  bool check_state(const pybind11::dict& state);
  bool read_options(const pybind11::list& groups);
  void prefetch_ahead(size_t entry) const;
  bool refresh_entries(const pybind11::list& groups);
  void gather();
  template <class Body>
  void without_gil(const Body& body) const;
  int32_t hyper_index_of(int32_t group, double count);

  OptionReader options_;
  std::vector<Entry> entries_;
  StepLock lock_;
  bool keeps_gil_ = false;  // while a step runs
  bool prepared_ = false;
  bool covers_params_ = true;  // false: some slots hold copies, which serve for one step
  at::Device device_ = at::kCPU;
  std::optional<c10::Stream> stream_;  // of the last step; CPU: none
  std::optional<c10::Event> moved_;    // recorded on a stream that the plan leaves
  std::vector<at::Tensor> memory_;     // of the executor, on the device
  std::unique_ptr<Executor> executor_;

  // What refresh() compares with: every parameter of every group, and the state's entries. Objects
  // of the user's, borrowed; `entry`: -1 where the plan has none.
  struct Listed {
    PyObject* param;
    int64_t entry;
  };
  struct StateItem {
    PyObject *param, *values;
    int64_t entry;
  };
  std::vector<std::vector<Listed>> listed_;
  std::vector<bool> serves_;  // a parameter of the group
  std::vector<StateItem> state_items_;
  std::vector<pybind11::object> projections_;

  std::vector<Hyper> group_options_;
  std::vector<Hyper> hypers_;
  std::vector<std::pair<int32_t, double>> hyper_keys_;  // (group, step count)
  std::map<std::pair<int32_t, double>, int32_t> hyper_index_;
  std::vector<std::pair<double, int32_t>> last_of_group_;  // step count, and its index
  std::vector<int32_t> hyper_indices_;
  std::vector<const void*> grads_;
};

}  // namespace adamp
