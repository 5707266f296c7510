// The Python objects of a plan: parameters, gradients, state dictionaries and groups, and whether
// they still are what the plan was made for.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <vector>

#include "../core/params.h"
#include "dtensor.h"
#include "guards.h"
#include "options.h"

namespace adamp {

// A step of many small tensors is spent on looking at them: little is kept, and is looked at once.
struct Entry {
  // `slot`: an adamp_fused.backends.protocol.Slot. `by_host`: see Tracker.
  Entry(Method method, const pybind11::handle& slot, bool by_host, StepLock& lock);

  // Prefetches what refresh() and end_step() look at.
  void prefetch() const;
  // Takes this step's gradient; false where the plan must be made anew. `object` is the parameter
  // that the group lists now, `state` its state now.
  bool refresh(PyObject* object, StepLock& lock);
  // The step count after this step; 0 where the host keeps none, or there is no gradient.
  double next_count() const;
  // After a step that was made: advances the step count and notes that everything else has been
  // written.
  void end_step();
  TensorInfo info() const;

  // Whether finish() belongs to its step.
  bool is_shard() const { return part_ != nullptr && part_->shard.sums != nullptr; }

  // Of a DTensor all that follows is of its local tensor, and of those of its state.
  ParamGuard param;
  Guard moment1, moment2, step, view, stats;
  PyObject* state = nullptr;           // the dictionary; borrowed, and found anew at every step
  const void* grad_address = nullptr;  // null: nothing to do
  bool has_grad = false;
  bool counts_on_device = false;  // the host neither reads nor writes `step`
  int32_t group;
  Projection projection;

 private:
  bool refresh_local(PyObject* dtensor, StepLock& lock);
  bool refresh_grad(const at::Tensor& grad, StepLock& lock);
  const void* stand_in() const;
  bool is_guarded(const Guard& guard, PyObject* value) const;
  bool check_state(StepLock& lock) const;
  double count() const;  // what `step` holds

  PrefetchHint last_grad_;
  std::unique_ptr<DTensorPart> part_;  // of a DTensor
};

// Whatever belongs to the user is kept alive from refresh() to end_step(), and not between steps.
class Tracker {
 public:
  // slots: adamp_fused.backends.protocol.Slot objects, all on one device, checked, and laid out in
  // rows.
  // by_host: the step is made on the host, which reads and writes whatever it needs.
  Tracker(Method method, const pybind11::list& slots, const pybind11::list& groups,
          const pybind11::dict& state, bool by_host);

  // Picks up gradients and options; false where the plan must be made anew, or there is no
  // gradient. Changes nothing of the user's.
  bool refresh(const pybind11::list& groups, const pybind11::dict& state);
  // After a step: advances step counts, notes what has been written, and lets everything go.
  // `made`: false where nothing was changed.
  void end_step(bool made);

  // Tells that no other Python thread can run between refresh() and end_step().
  void keep_gil() { keeps_gil_ = true; }

  const std::vector<Entry>& entries() const { return entries_; }
  bool has_shards() const { return has_shards_; }
  // Of each group that has a parameter here.
  const std::vector<Hyper>& group_options() const { return group_options_; }
  at::Device device() const { return device_; }
  std::vector<TensorInfo> infos() const;

 private:
  bool check_state(const pybind11::dict& state);
  bool read_options(const pybind11::list& groups);
  void prefetch_ahead(size_t entry) const;
  bool refresh_entries(const pybind11::list& groups);

  OptionReader options_;
  std::vector<Entry> entries_;
  StepLock lock_;
  bool keeps_gil_ = false;
  bool has_shards_ = false;
  bool covers_params_ = true;  // false: some slots hold copies, which serve for one step
  at::Device device_ = at::kCPU;

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
  std::vector<Planned> planned_;  // of each group
  std::vector<Hyper> group_options_;
};

}  // namespace adamp
