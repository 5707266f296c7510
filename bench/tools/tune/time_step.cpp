// Times the CUDA step by itself: plain arrays, one stream, events; no Python, no torch.
//
//   time_step adamp|sgdp BATCHES STEPS < list
//
// The list has a line for each tensor: rows, columns, and the outcome of the projection test (off,
// none, channel, layer). The outcome layer is set as the option, which predicts nothing, as a last
// outcome "layer" does. Prints the memcpy bandwidth in GB/s, then the microseconds of one step for
// each batch of steps. Fails where a tensor has another outcome.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../../csrc/core/params.h"

namespace adamp {
namespace {

void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

std::shared_ptr<void> device_memory(int64_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, static_cast<size_t>(bytes)));
  return {memory, [](void* at) { cudaFree(at); }};
}

class Timer {
 public:
  Timer() {
    check(cudaEventCreate(&begin_));
    check(cudaEventCreate(&end_));
  }
  ~Timer() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  // Microseconds of the device for one of `count` calls, one behind the other.
  template <class Body>
  double of_one(int count, const Body& body) {
    check(cudaEventRecord(begin_, nullptr));
    for (int i = 0; i < count; ++i) body();
    check(cudaEventRecord(end_, nullptr));
    check(cudaEventSynchronize(end_));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return 1e3 * milliseconds / count;
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Of one large copy: bytes read and bytes written count.
double memcpy_bandwidth(Timer& timer, int64_t bytes) {
  const auto from = device_memory(bytes), to = device_memory(bytes);
  check(cudaMemset(from.get(), 1, static_cast<size_t>(bytes)));
  std::vector<double> times;
  for (int i = 0; i < 10; ++i) {
    times.push_back(timer.of_one(3, [&] {
      check(cudaMemcpyAsync(to.get(), from.get(), static_cast<size_t>(bytes),
                            cudaMemcpyDeviceToDevice, nullptr));
    }));
  }
  return 2e-3 * static_cast<double>(bytes) / median(times);
}

// Random elements, positive where asked: equal bits everywhere would draw less power.
class Noise {
 public:
  Noise() : sample_(kElements) {
    std::mt19937 generator(0);
    std::normal_distribution<float> normal(0, 0.02f);
    for (float& x : sample_) x = normal(generator);
  }
  std::shared_ptr<void> array(int64_t numel, bool positive = false) {
    auto memory = device_memory(std::max<int64_t>(1, numel) * 4);
    std::vector<float> part = sample_;
    if (positive) {
      for (float& x : part) x = x * x;
    }
    for (int64_t at = 0; at < numel; at += kElements) {
      const int64_t count = std::min<int64_t>(kElements, numel - at);
      check(cudaMemcpy(static_cast<float*>(memory.get()) + at, part.data(),
                       static_cast<size_t>(count) * 4, cudaMemcpyHostToDevice));
    }
    return memory;
  }

 private:
  static constexpr int64_t kElements = 1 << 18;
  std::vector<float> sample_;
};

struct Line {
  int64_t rows, cols;
  std::string outcome;
};

Projection projection_of(const std::string& outcome) {
  if (outcome == "off") return Projection::kOff;
  if (outcome == "layer") return Projection::kLayer;
  if (outcome == "none" || outcome == "channel") return Projection::kAuto;
  throw std::invalid_argument("no outcome: " + outcome);
}

class Tensors {
 public:
  std::vector<TensorInfo> infos;
  std::vector<const void*> grads;

  void add(const Line& line, Method method) {
    const int64_t numel = line.rows * line.cols;
    TensorInfo info = {};
    info.param = keep(noise_.array(numel));
    info.moment1 = keep(noise_.array(numel));
    if (method == Method::kAdamP) info.moment2 = keep(noise_.array(numel, true));
    info.rows = line.rows;
    info.cols = line.cols;
    info.dtype = DType::kFloat32;
    info.projection = projection_of(line.outcome);
    float* const grad = static_cast<float*>(keep(device_memory(std::max<int64_t>(1, numel) * 4)));
    if (line.outcome == "channel") {
      // Tangential to everything.
      check(cudaMemset(grad, 0, static_cast<size_t>(numel) * 4));
    } else {
      // The weight itself: every cosine is 1.
      check(cudaMemcpy(grad, info.param, static_cast<size_t>(numel) * 4, cudaMemcpyDeviceToDevice));
    }
    if (info.projection == Projection::kAuto) {
      info.view = static_cast<int32_t*>(keep(device_memory(sizeof(int32_t))));
      check(cudaMemset(info.view, 0, sizeof(int32_t)));
    }
    infos.push_back(info);
    grads.push_back(grad);
    lines_.push_back(line);
  }

  void demand_outcomes() const {
    for (size_t t = 0; t < infos.size(); ++t) {
      if (infos[t].view == nullptr) continue;
      int32_t found = -1;
      check(cudaMemcpy(&found, infos[t].view, sizeof found, cudaMemcpyDeviceToHost));
      const View wanted = lines_[t].outcome == "channel" ? View::kChannel : View::kNone;
      if (found != static_cast<int32_t>(wanted)) {
        throw std::runtime_error("tensor " + std::to_string(t) + " is not " + lines_[t].outcome +
                                 ", its view is " + std::to_string(found));
      }
    }
  }

 private:
  void* keep(std::shared_ptr<void> memory) {
    memory_.push_back(std::move(memory));
    return memory_.back().get();
  }

  Noise noise_;
  std::vector<std::shared_ptr<void>> memory_;
  std::vector<Line> lines_;
};

// Moments that stay as they are, and a rate at which weights do: every step is like the first.
Hyper still() {
  Hyper h = {};
  h.numbers = {1e-12, 0, 1, 1};
  h.decay_factor = 1;
  h.wd_ratio = 0.1;
  h.delta = 0.1;
  h.eps = 1e-8;
  h.beta1 = h.beta2 = 1;
  return h;
}

void run(Method method, int batches, int steps) {
  Timer timer;
  const char* const bytes = std::getenv("COPY_BYTES");
  std::printf("%.3f\n",
              memcpy_bandwidth(timer, bytes == nullptr ? int64_t{1} << 30 : std::atoll(bytes)));
  Tensors tensors;
  for (Line line; std::cin >> line.rows >> line.cols >> line.outcome;) tensors.add(line, method);
  const auto executor = make_cuda_executor(method, tensors.infos, false, device_memory, nullptr);
  const std::vector<int32_t> hyper_indices(tensors.infos.size(), 0);
  const Hyper hyper = still();
  const StepInputs inputs = {tensors.grads.data(), hyper_indices.data(), &hyper, 1, 1, nullptr};
  for (int i = 0; i < 3; ++i) executor->run(inputs);
  for (int batch = 0; batch < batches; ++batch) {
    std::printf("%.3f\n", timer.of_one(steps, [&] { executor->run(inputs); }));
  }
  tensors.demand_outcomes();
}

}  // namespace
}  // namespace adamp

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw std::invalid_argument("time_step adamp|sgdp BATCHES STEPS < list");
    const auto method =
        std::string(argv[1]) == "adamp" ? adamp::Method::kAdamP : adamp::Method::kSGDP;
    adamp::run(method, std::atoi(argv[2]), std::atoi(argv[3]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "time_step: %s\n", error.what());
    return 1;
  }
  return 0;
}
