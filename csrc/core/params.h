// Plain structs between the binding, the plan and the kernels: what a step is given.
//
// No torch header and no CUDA header: the binding is the last place that sees a tensor.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace adamp {

enum class Method : int32_t { kAdamP, kSGDP };  // see methods.h
constexpr Method kMethods[] = {Method::kAdamP, Method::kSGDP};
enum class DType : int32_t { kFloat32, kFloat64, kBFloat16, kFloat16 };
// What the tensor-wide test decides; the values are those of the state `view`.
enum class View : int32_t { kNone = 0, kChannel = 1, kLayer = 2 };
// The option `projection`; tensors of fewer than two dimensions are kOff. One that is fixed is its
// own outcome.
enum class Projection : int32_t { kOff = 0, kChannel = 1, kLayer = 2, kAuto = 3 };

// What of a group's options may change on the device, where the host does not see it.
struct StepNumbers {
  double lr, weight_decay;
  double inv_bias_correction1, inv_root_bias_correction2;  // see methods.h
};

// The options of one parameter group at one step count.
struct Hyper {
  StepNumbers numbers;
  // Of a tensor on the device: it takes the place of the number.
  const float *device_lr, *device_weight_decay;
  double decay_factor;  // of weight_decay; SGDP: 1 / (1 - momentum), AdamP: 1
  double wd_ratio, delta, eps;
  double beta1, one_minus_beta1, beta2;  // see Scalars in methods.h
  int8_t nesterov, maximize, project_buffer;
};

// What the processes that each have a part of a tensor tell one another between launch() and
// finish(): what launch() has left is added up over all of them by the caller.
struct ShardSums {
  double steppers;        // how many processes step it: each leaves 1
  double failed_rows;     // of the cosine test
  double pp, gg, pg, pu;  // as in RowSums
};

// The same of what optimizer.stats() wants to know; see StatSums in stats.h.
struct ShardStats {
  double uu, rp, ru, rr;
};

// The part of a tensor that this process has.
struct Shard {
  // Null: the tensor is all here, or its update needs no sums of other parts.
  ShardSums* sums;
  // Where rows have parts elsewhere and their own sums are needed: pp, gg, pg and pu of each row
  // that has a part here. The caller tests the rows, once it has added them up.
  double* row_sums;
  int64_t cols, numel;  // of the whole tensor
  // Null: nobody asks for statistics. The largest cosine is not added up, but compared.
  ShardStats* stats;
  double* max_cosine;
};

// What optimizer.stats() knows of a tensor: its last step, and some of all steps. The state `stats`
// holds it; Stat in adamp_fused/_stats.py names the same fields.
struct TensorStats {
  double outcomes[3];  // how many steps came to each View
  double outcome;      // of the last
  double max_cosine, bound;
  double pp, gg, pu, uu;  // before the step
  double rp, ru, rr;      // what the projection took
  double lr, inv_bias_correction1, decay;
  double first_pp;  // before the first step
};

// What of a parameter does not change between steps. Rows are contiguous runs; gradient and moments
// of an element lie at the weight's own offset.
struct TensorInfo {
  void* param;
  void* moment1;  // exp_avg, or SGDP's momentum
  void* moment2;  // exp_avg_sq; SGDP: null
  int32_t* view;  // the last outcome, where projection is kAuto; else null
  int64_t rows, cols;
  DType dtype;
  Projection projection;
  void* count;  // the state `step`, where the device keeps it: it is advanced there; else null
  DType count_dtype;  // float32 or float64
  Shard shard;
  TensorStats* stats;  // null: nobody asks for it

  // Of the whole tensor, which the cosine bounds depend on.
  constexpr int64_t whole_cols() const { return shard.sums == nullptr ? cols : shard.cols; }
  constexpr int64_t whole_numel() const {
    return shard.sums == nullptr ? rows * cols : shard.numel;
  }
};

// What decides on the device whether a step is made, and by what its gradients are multiplied. All
// addresses are of the plan's device, and null where the user has not asked for it.
struct Control {
  const float* grad_scale;  // gradients are divided by it as they are read
  const float* found_inf;   // not 0: the step changes nothing
  int64_t* steps_skipped;   // counts those
  const double* clip;       // gradients are multiplied by it as they are read
  // Of a plan that clips by itself: the most that the norm of all its gradients may be, and where
  // that norm is left, a float32 or a float64.
  double max_norm;
  void* grad_norm;
  DType norm_dtype;
};

// What changes at every step, one entry for each tensor of the plan.
struct StepInputs {
  const void* const* grads;      // null: no gradient, the tensor is left alone
  const int32_t* hyper_indices;  // into hypers
  const Hyper* hypers;
  int64_t n_hypers;
  int64_t threads;  // CPU: the most that the step may use
  void* stream;     // CUDA: the cudaStream_t to launch on
  Control control;
  bool is_captured;  // CUDA: into a graph, whose replays launch with the same values
};

// One way to perform the planned step. Made once for a list of tensors; prepare() and launch() at
// every step, and finish() where a tensor has Shard::sums.
struct Executor {
  virtual ~Executor() = default;
  // All that may fail for want of memory. Changes no tensor of the plan.
  virtual void prepare(const StepInputs& inputs) = 0;
  // The step that was last prepared. False where it is known not to have been made: see found_inf.
  virtual bool launch() = 0;
  // The rest of that step for tensors that have Shard::sums, by sums of all parts.
  virtual void finish() = 0;
  bool run(const StepInputs& inputs) {
    prepare(inputs);
    return launch();
  }
};

// Calls body(k) for each k below `threads`, each on a thread of its own, or fewer of them where
// there are not as many threads, and waits for all.
using Team = std::function<void(int64_t threads, const std::function<void(int64_t thread)>& body)>;
// `clips`: see Control::max_norm.
std::unique_ptr<Executor> make_cpu_executor(Method method, std::vector<TensorInfo> tensors,
                                            bool clips, Team team);

// Memory of the tensors' device, freed with the last copy of the pointer.
using Allocate = std::function<std::shared_ptr<void>(int64_t bytes)>;
std::unique_ptr<Executor> make_cuda_executor(Method method, std::vector<TensorInfo> tensors,
                                             bool clips, const Allocate& allocate, void* stream);

constexpr int64_t size_of(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
}

}  // namespace adamp
