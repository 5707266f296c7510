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

// The options of one parameter group at one step count.
struct Hyper {
  double lr;
  const float* device_lr;  // where lr is a tensor on the device: its address, and lr is not used
  double weight_decay;
  double decay_factor;  // of weight_decay; SGDP: 1 / (1 - momentum), AdamP: 1
  double wd_ratio, delta, eps;
  double beta1, one_minus_beta1, beta2, one_minus_beta2;  // see Scalars in methods.h
  double inv_bias_correction1, inv_root_bias_correction2;
  int32_t nesterov, maximize, project_buffer;
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
};

// What changes at every step, one entry for each tensor of the plan.
struct StepInputs {
  const void* const* grads;      // null: no gradient, the tensor is left alone
  const int32_t* hyper_indices;  // into hypers
  const Hyper* hypers;
  int64_t n_hypers;
  int64_t threads;  // CPU: the most that the step may use
  void* stream;     // CUDA: the cudaStream_t to launch on
};

// One way to perform the planned step. Made once for a list of tensors; prepare() and launch() at
// every step.
struct Executor {
  virtual ~Executor() = default;
  // All that may fail for want of memory. Changes no tensor of the plan.
  virtual void prepare(const StepInputs& inputs) = 0;
  // The step that was last prepared.
  virtual void launch() = 0;
  void run(const StepInputs& inputs) {
    prepare(inputs);
    launch();
  }
};

// Calls body(k) for each k below `threads`, each on a thread of its own, or fewer of them where
// there are not as many threads, and waits for all.
using Team = std::function<void(int64_t threads, const std::function<void(int64_t thread)>& body)>;
std::unique_ptr<Executor> make_cpu_executor(Method method, std::vector<TensorInfo> tensors,
                                            Team team);

// Memory of the tensors' device, freed with the last copy of the pointer.
using Allocate = std::function<std::shared_ptr<void>(int64_t bytes)>;
std::unique_ptr<Executor> make_cuda_executor(Method method, std::vector<TensorInfo> tensors,
                                             const Allocate& allocate, void* stream);

constexpr int64_t size_of(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
}

}  // namespace adamp
