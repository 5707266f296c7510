// The CPU step on several threads that begin at different times, under ThreadSanitizer: the same
// bits as on one thread, whoever does what.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <thread>

#include "../../../csrc/core/params.h"
#include "../../../csrc/cpu/row_loops.h"

namespace adamp {

// Of the loops one instruction set is enough.
const RowLoops& row_loops(Method method, DType dtype) { return row_loops_baseline(method, dtype); }

namespace {

constexpr int kSteps = 8;

struct Shape {
  int64_t rows, cols;
  Projection projection;
};

// Of one tile and of several; rows that share a tile, fill some, or are split; more tensors than
// one batch holds.
std::vector<Shape> shapes() {
  std::vector<Shape> all = {{300, 257, Projection::kAuto},   {20, 5000, Projection::kAuto},
                            {2, 70000, Projection::kAuto},   {64, 1030, Projection::kLayer},
                            {90, 600, Projection::kChannel}, {1, 50000, Projection::kOff},
                            {3000, 9, Projection::kAuto},    {150, 300, Projection::kLayer},
                            {64, 1030, Projection::kAuto},   {20000, 1, Projection::kAuto},
                            {9000, 3, Projection::kAuto},    {9000, 3, Projection::kChannel}};
  for (int i = 0; i < 100; ++i) all.push_back({16, 16, Projection::kAuto});
  return all;
}

struct Tensor {
  std::vector<float> p, g, m, v;
  int32_t view = 0;
};

// Takes from g what is parallel to p.
void make_tangential(float* g, const float* p, int64_t n) {
  double pp = 0, pg = 0;
  for (int64_t i = 0; i < n; ++i) {
    pp += double(p[i]) * p[i];
    pg += double(p[i]) * g[i];
  }
  for (int64_t i = 0; i < n; ++i) g[i] -= static_cast<float>(pg / pp * p[i]);
}

// A model, stepped by an executor of its own; the same numbers in each.
class Model {
 public:
  Model(Method method, bool clips, Team team) : shapes_(shapes()), random_(1), clips_(clips) {
    std::normal_distribution<float> normal;
    std::vector<TensorInfo> infos;
    for (const Shape& shape : shapes_) {
      const int64_t n = shape.rows * shape.cols;
      Tensor& t = tensors_.emplace_back();
      for (auto* array : {&t.p, &t.g, &t.m, &t.v}) array->resize(n);
      for (float& x : t.p) x = normal(random_);
      const bool adam = method == Method::kAdamP;
      infos.push_back({t.p.data(), t.m.data(), adam ? t.v.data() : nullptr, nullptr, shape.rows,
                       shape.cols, DType::kFloat32, shape.projection});
    }
    for (size_t i = 0; i < infos.size(); ++i) {
      if (shapes_[i].projection == Projection::kAuto) infos[i].view = &tensors_[i].view;
      grads_.push_back(tensors_[i].g.data());
    }
    executor_ = make_cpu_executor(method, infos, clips_, std::move(team));
  }

  // With gradients for which each tensor comes out channel-wise, layer-wise and not projected in
  // turn, for two steps each: predicted rightly and wrongly.
  void step(int count, int64_t threads) {
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      Tensor& t = tensors_[i];
      const int64_t rows = shapes_[i].rows, cols = shapes_[i].cols;
      for (float& x : t.g) x = normal(random_);
      const size_t kind = (i + count / 2) % 3;
      for (int64_t row = 0; kind == 0 && row < rows; ++row) {
        make_tangential(t.g.data() + row * cols, t.p.data() + row * cols, cols);
      }
      if (kind == 1) make_tangential(t.g.data(), t.p.data(), rows * cols);
      if (kind == 2) t.g[0] += t.p[0] * static_cast<float>(rows * cols);
    }
    Hyper hyper = {};
    hyper.numbers = {1e-2, 1e-2, 1, 1};
    hyper.decay_factor = 1;
    hyper.wd_ratio = hyper.delta = 0.1;
    hyper.eps = 1e-8;
    hyper.beta1 = 0.9;
    hyper.one_minus_beta1 = 0.1;
    hyper.beta2 = 0.999;
    hyper.project_buffer = 1;
    const std::vector<int32_t> indices(tensors_.size(), 0);
    Control control = {};
    if (clips_) {
      control.max_norm = 1;
      control.grad_norm = &norm_;
      control.norm_dtype = DType::kFloat64;
    }
    executor_->run({grads_.data(), indices.data(), &hyper, 1, threads, nullptr, control, false});
  }

  // What differs, or "".
  std::string compare(const Model& other) const {
    if (norm_ != other.norm_) return "the norm";
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const Tensor &mine = tensors_[i], &its = other.tensors_[i];
      if (mine.view != its.view) return "the outcome of tensor " + std::to_string(i);
      const auto differ = [](const std::vector<float>& a, const std::vector<float>& b) {
        return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) != 0;
      };
      if (differ(mine.p, its.p) || differ(mine.m, its.m) || differ(mine.v, its.v)) {
        return "tensor " + std::to_string(i);
      }
    }
    return "";
  }

  // Whether every outcome occurs.
  bool mixed() const {
    bool found[3] = {};
    for (const Tensor& t : tensors_) found[t.view] = true;
    return found[0] && found[1] && found[2];
  }

 private:
  std::vector<Shape> shapes_;
  std::mt19937 random_;
  std::vector<Tensor> tensors_;
  std::vector<const void*> grads_;
  bool clips_;
  std::unique_ptr<Executor> executor_;
  double norm_ = 0;
};

// Threads that begin up to 300 us late, as `seed` draws: some find all work done, some are stolen
// from.
Team late_team(unsigned seed) {
  auto random = std::make_shared<std::mt19937>(seed);
  return [random](int64_t threads, const std::function<void(int64_t)>& body) {
    std::vector<std::thread> team;
    for (int64_t k = 0; k < threads; ++k) {
      const std::chrono::microseconds late((*random)() % 2 ? (*random)() % 300 : 0);
      team.emplace_back([k, late, &body] {
        std::this_thread::sleep_for(late);
        body(k);
      });
    }
    for (std::thread& thread : team) thread.join();
  };
}

// One thread for all: each begins when the one before has returned.
void lone_team(int64_t threads, const std::function<void(int64_t)>& body) {
  for (int64_t k = 0; k < threads; ++k) body(k);
}

std::string check(Method method, bool clips, const Team& team, int64_t threads) {
  Model alone(method, clips, nullptr), together(method, clips, team);
  bool mixed = false;
  for (int count = 0; count < kSteps; ++count) {
    alone.step(count, 1);
    together.step(count, threads);
    mixed = mixed || alone.mixed();
    const std::string wrong = alone.compare(together);
    if (!wrong.empty()) return wrong + " differs after step " + std::to_string(count + 1);
  }
  return mixed ? "" : "not every outcome occurred";
}

}  // namespace
}  // namespace adamp

int main() {
  using namespace adamp;
  for (const Method method : {Method::kAdamP, Method::kSGDP}) {
    for (const int64_t threads : {2, 3, 8}) {
      for (const bool lone : {false, true}) {
        const Team team = lone ? Team(lone_team) : late_team(static_cast<unsigned>(threads));
        // Clipped where the number of threads is odd.
        const std::string wrong = check(method, threads % 2 == 1, team, threads);
        if (wrong.empty()) continue;
        std::printf("%s, %d threads%s: %s\n", method == Method::kAdamP ? "AdamP" : "SGDP",
                    static_cast<int>(threads), lone ? " in turn" : "", wrong.c_str());
        return 1;
      }
    }
  }
  return 0;
}
