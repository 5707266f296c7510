// The step of one device, without Python: what is given at each step, the options at each step
// count, the stream, and the executor.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../core/methods.h"
#include "../core/params.h"

namespace adamp {

class StepPlan {
 public:
  // executor: "cpu" or "cuda"; none where the caller makes the step itself, from what scalars(),
  // hyper_indices() and grads() say.
  // clips: see Control::max_norm.
  StepPlan(Method method, const std::optional<std::string>& executor, bool clips,
           std::vector<TensorInfo> tensors, at::Device device);

  // What a step is given: first the options of each group, then for each tensor its group, its
  // step count after the step (0: none is kept), and its gradient (null: there is nothing to do).
  void begin(const std::vector<Hyper>& group_options);
  void add(int32_t group, double step, const void* grad) {
    // Nearly always the count that the group's last tensor had.
    const std::pair<double, int32_t>& last = last_of_group_[group];
    hyper_indices_[n_added_] =
        last.second >= 0 && last.first == step ? last.second : hyper_index_of(group, step);
    grads_[n_added_++] = grad;
  }

  // Makes the current stream wait for the last step where that ran on another one, and tells the
  // allocator that the plan's memory is used there. Whether the stream has changed.
  bool follow_stream();
  // Whether the current stream goes into a graph.
  bool is_capturing() const;
  // All of a step that may fail. Changes no tensor. follow_stream() comes first, unless the step is
  // captured into a graph, which runs when and where the user says.
  void prepare(const Control& control, bool is_captured);
  // The step that was last prepared; see Executor.
  bool launch();
  void finish();

  const std::vector<const void*>& grads() const { return grads_; }
  // Of each tensor, into hypers().
  const std::vector<int32_t>& hyper_indices() const { return hyper_indices_; }
  // One for each group and step count that occur, the corrections of the bias made.
  const std::vector<Hyper>& hypers() const { return hypers_; }

 private:
  int32_t hyper_index_of(int32_t group, double step);

  Method method_;
  at::Device device_;
  std::optional<c10::Stream> stream_;  // of the last step; CPU: none
  std::optional<c10::Event> moved_;    // recorded on a stream that the plan leaves
  std::vector<at::Tensor> memory_;     // of the executor, on the device
  std::unique_ptr<Executor> executor_;

  const std::vector<Hyper>* group_options_ = nullptr;  // of the step
  std::vector<Hyper> hypers_;
  std::map<std::pair<int32_t, double>, int32_t> hyper_index_;  // by group and step count
  std::vector<std::pair<double, int32_t>> last_of_group_;      // step count, and its index
  size_t n_added_ = 0;
  std::vector<int32_t> hyper_indices_;
  std::vector<const void*> grads_;
};

}  // namespace adamp
