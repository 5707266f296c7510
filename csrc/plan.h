// The plan object that Python holds: the last place that sees tensors.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "entry.h"
#include "group_options.h"

namespace adamp {

// Keeps what does not change between steps (shapes, addresses, work items) and notices when it
// does.
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

  // One step on what was last picked up.
  void run();

 private:
  bool same_params(const pybind11::dict& state) const;
  bool read_options(const pybind11::list& groups);
  void ask_ahead(size_t entry) const;
  bool refresh_entries(const pybind11::list& groups);
  void gather();
  int32_t hyper_index_of(int32_t group, double count);

  OptionReader options_;
  std::vector<Entry> entries_;
  bool covers_params_ = true;  // false: some slots hold copies, which serve for one step
  at::Device device_ = at::kCPU;
  void* stream_ = nullptr;  // that the plan was made on; CPU: null
  std::unique_ptr<Executor> executor_;

  // What refresh() compares with: every parameter of every group (entry or -1), and the state's
  // entries.
  struct Listed {
    PyObject* param;
    int64_t entry;
  };
  std::vector<std::vector<Listed>> listed_;
  std::vector<std::pair<PyObject*, PyObject*>> state_items_;
  std::vector<pybind11::object> projections_;

  std::vector<Hyper> group_options_;
  std::vector<Hyper> hypers_;
  std::vector<std::pair<int32_t, double>> hyper_keys_;  // (group, step count)
  std::vector<int32_t> hyper_indices_;
  std::vector<const void*> grads_;
};

}  // namespace adamp
