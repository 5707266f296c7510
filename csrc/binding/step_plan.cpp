#include "step_plan.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <stdexcept>

#if defined(ADAMP_FUSED_WITH_CUDA)
#include "../cuda/runtime.h"
#endif

namespace adamp {
namespace {

void run_on_team(int64_t threads, const std::function<void(int64_t)>& body) {
  at::parallel_for(0, threads, 1, [&](int64_t thread, int64_t) { body(thread); });
}

c10::Stream current_stream(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

// memory: where the executor's memory is listed as it is allocated.
std::unique_ptr<Executor> make_executor(const std::string& name, Method method, bool clips,
                                        std::vector<TensorInfo> tensors,
                                        [[maybe_unused]] at::Device device,
                                        [[maybe_unused]] std::vector<at::Tensor>& memory,
                                        [[maybe_unused]] void* stream) {
  if (name == "cpu") return make_cpu_executor(method, std::move(tensors), clips, run_on_team);
#if defined(ADAMP_FUSED_WITH_CUDA)
  if (name == "cuda") {
    const Allocate allocate = [device, &memory](int64_t bytes) {
      const auto options = at::TensorOptions().dtype(at::kByte).device(device);
      auto piece = std::make_shared<at::Tensor>(at::empty({bytes}, options));
      memory.push_back(*piece);
      return std::shared_ptr<void>(piece, piece->data_ptr());
    };
    return make_cuda_executor(method, std::move(tensors), clips, allocate, stream);
  }
#endif
  throw std::invalid_argument("this build has no executor named '" + name + "'");
}

}  // namespace

StepPlan::StepPlan(Method method, const std::optional<std::string>& executor, bool clips,
                   std::vector<TensorInfo> tensors, at::Device device)
    : method_(method), device_(device) {
  grads_.resize(tensors.size());
  hyper_indices_.resize(tensors.size());
  if (!device.is_cpu()) stream_ = current_stream(device);
  const c10::OptionalDeviceGuard guard(device);
  if (executor) {
    executor_ = make_executor(*executor, method, clips, std::move(tensors), device, memory_,
                              stream_ ? stream_->native_handle() : nullptr);
  }
}

void StepPlan::begin(const std::vector<Hyper>& group_options) {
  group_options_ = &group_options;
  hypers_.clear();
  hyper_index_.clear();
  last_of_group_.assign(group_options.size(), {0, -1});
  n_added_ = 0;
}

int32_t StepPlan::hyper_index_of(int32_t group, double step) {
  const auto [found, is_new] = hyper_index_.try_emplace({group, step}, hypers_.size());
  if (is_new) {
    Hyper& h = hypers_.emplace_back((*group_options_)[group]);
    if (step > 0) {
      for_method(method_, [&](auto m) {
        using M = decltype(m);
        if constexpr (M::kCountsSteps) M::correct_bias(h, step, h.numbers);
      });
    }
  }
  last_of_group_[group] = {step, found->second};
  return found->second;
}

bool StepPlan::follow_stream() {
  if (!stream_) return false;
  const c10::Stream now = current_stream(device_);
  if (now == *stream_) return false;
  if (!moved_) moved_.emplace(device_.type());
  moved_->record(*stream_);
  moved_->block(now);
  for (const at::Tensor& memory : memory_) memory.record_stream(now);
  stream_ = now;
  return true;
}

bool StepPlan::is_capturing() const {
#if defined(ADAMP_FUSED_WITH_CUDA)
  return stream_ && adamp::is_capturing(current_stream(device_).native_handle());
#else
  return false;
#endif
}

void StepPlan::prepare(const Control& control, bool is_captured) {
  if (!executor_) return;
  const c10::OptionalDeviceGuard guard(device_);
  void* stream = nullptr;
  if (stream_) stream = (is_captured ? current_stream(device_) : *stream_).native_handle();
  executor_->prepare({grads_.data(), hyper_indices_.data(), hypers_.data(),
                      static_cast<int64_t>(hypers_.size()), at::get_num_threads(), stream, control,
                      is_captured});
}

bool StepPlan::launch() {
  if (!executor_) return true;
  const c10::OptionalDeviceGuard guard(device_);
  return executor_->launch();
}

void StepPlan::finish() {
  if (!executor_) return;
  const c10::OptionalDeviceGuard guard(device_);
  executor_->finish();
}

}  // namespace adamp
