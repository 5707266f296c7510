#include "world.h"

#include <cmath>

#include "gradients.h"
#include "kernel_emulated.h"
#include "memory.h"
#include "runtime_emulated.h"
#include "statistics.h"

namespace emulation {
namespace {

using adamp::Hyper;
using adamp::StepNumbers;
using adamp::View;

// |got - want| <= relative * |want| + of_step * lr. 16-bit types: half a unit of the result, and a
// few units of the update.
struct Tolerance {
  double relative, of_step;
};

Tolerance tolerance(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return {1e-12, 1e-11};
    case DType::kFloat32:
      return {2e-5, 2e-4};
    case DType::kFloat16:
      return {0x1p-11 * 1.01, 0x1p-9};
    default:
      return {0x1p-8 * 1.01, 0x1p-6};
  }
}

// The bits of a View's int32 kept in a float array of one element.
View view_of(const Array& array) {
  int32_t value;
  std::memcpy(&value, array.data(), 4);
  return static_cast<View>(value);
}

// Fowler, Noll and Vo's hash, 64 bits.
constexpr uint64_t kEmptyHash = 0xcbf29ce484222325;
void add_to_hash(uint64_t& hash, const std::vector<unsigned char>& bytes) {
  for (const unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
}

}  // namespace

World::World(const Case& c)
    : case_(c),
      device_lr_("lr", DType::kFloat32, 1, 0),
      device_decay_("weight decay", DType::kFloat32, 1, 0),
      grad_scale_("scale", DType::kFloat32, 1, 0),
      found_inf_("found_inf", DType::kFloat32, 1, 0),
      grad_norm_("norm", c.method == Method::kAdamP ? DType::kFloat32 : DType::kFloat64, 1, 0) {
  device_lr_.set(0, c.options.lr);
  device_decay_.set(0, c.options.weight_decay);
  grad_scale_.set(0, c.options.grad_scale);
  size_t processes = 1;
  for (const TensorSpec& spec : c.tensors) {
    Tensor t;
    t.spec = spec;
    static_cast<Arrays&>(t) = Arrays(c, spec, spec.rows, spec.cols);
    const int64_t numel = t.p.count();
    Random random(tensors_.size());
    for (int64_t i = 0; i < numel; ++i) {
      // Some rows are so small that their update cannot be rolled back, and some are zero.
      const int64_t row = i / spec.cols;
      const double scale = row % 11 == 7 ? 0 : row % 64 == 3 ? 1e-3 : 1;
      t.p.set(i, scale * normal(random));
      t.m.set(i, 0);
      if (t.v.data() != nullptr) t.v.set(i, 0);
    }
    if (spec.infinite) {
      t.p.set(0, -INFINITY);
      t.p.set(numel / 2, INFINITY);
      t.p.set(numel - 1, -INFINITY);
    }
    std::memcpy(t.view.data(), &c.last, 4);
    t.start = save(t);
    t.parts = parts_of(c, spec, t);
    scatter(t, t.parts);
    processes = std::max(processes, t.parts.size());
    tensors_.push_back(std::move(t));
  }
  for (size_t process = 0; process < processes; ++process) {
    steps_skipped_.push_back(std::make_shared<int64_t>(0));
    races::add_memory(steps_skipped_.back().get(), sizeof(int64_t), sizeof(int64_t), "skipped",
                      true);
  }
}

Hyper World::hyper(size_t tensor, int step) const {
  const Options& o = case_.options;
  Hyper h = {};
  StepNumbers& n = h.numbers;
  n = {o.lr * (own_hypers(step) ? 1 + 0.01 * static_cast<double>(tensor) : 1), o.weight_decay, 1,
       1};
  if (o.lr_on_device) {
    h.device_lr = static_cast<const float*>(device_lr_.data());
    n.lr = *h.device_lr;
  }
  if (o.decay_on_device) {
    h.device_weight_decay = static_cast<const float*>(device_decay_.data());
    n.weight_decay = *h.device_weight_decay;
  }
  h.wd_ratio = 0.3;
  h.delta = o.delta;
  h.eps = o.eps;
  h.nesterov = o.nesterov;
  h.maximize = o.maximize;
  h.project_buffer = o.project_buffer;
  h.decay_factor = 1;
  h.beta1 = 0.9;
  h.one_minus_beta1 = 0.8;
  if (case_.method == Method::kAdamP) {
    h.one_minus_beta1 = 0.1;
    h.beta2 = 0.999;
    const double count = made(tensors_[tensor], step) + 1;
    n.inv_bias_correction1 = 1 / (1 - std::pow(0.9, count));
    n.inv_root_bias_correction2 = 1 / std::sqrt(1 - std::pow(0.999, count));
  } else {
    h.decay_factor = 10;
  }
  return h;
}

World::Executors World::make_executors(int blocks) const {
  device().blocks = blocks;
  Executors executors;
  for (size_t process = 0; process < steps_skipped_.size(); ++process) {
    std::vector<adamp::TensorInfo> infos;
    for (const Tensor& t : tensors_) {
      if (process >= t.parts.size()) continue;
      const Part& part = t.parts[process];
      adamp::TensorInfo info = {};
      info.param = part.p.data();
      info.moment1 = part.m.data();
      info.moment2 = part.v.data();
      const bool automatic = t.spec.projection == Projection::kAuto;
      info.view = automatic ? static_cast<int32_t*>(part.view.data()) : nullptr;
      info.rows = t.spec.projection == Projection::kOff ? 1 : part.rows;
      info.cols = info.rows == 0 ? 0 : part.p.count() / info.rows;
      info.dtype = t.spec.dtype;
      info.projection = t.spec.projection;
      info.count = part.count.data();
      info.count_dtype = t.spec.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
      info.shard = part.shard(t.spec, measures(t.spec));
      if (measures(t.spec)) info.stats = static_cast<adamp::TensorStats*>(part.stats.data());
      infos.push_back(info);
    }
    const bool clips = case_.options.max_norm > 0;
    executors.push_back(adamp::make_cuda_executor(case_.method, infos, clips, allocate, nullptr));
  }
  return executors;
}

double World::made(const Tensor& t, int step) const {
  if (!case_.options.counts_on_device) return step;
  double count = 0;
  for (int i = 0; i < step; ++i) count += has_grad(t, i) && !skips(i);
  return count;
}

double World::norm(int step) const {
  double sum = 0;
  for (const Tensor& t : tensors_) {
    for (int64_t i = 0; has_grad(t, step) && i < t.p.count(); ++i) {
      sum += std::pow(t.grads[step].get(i) / case_.options.grad_scale, 2);
    }
  }
  return std::sqrt(sum);
}

double World::factor(int step) const {
  const Options& o = case_.options;
  const double clip = o.max_norm > 0 ? o.max_norm / (norm(step) + 1e-6) : 1;
  return (clip > 1 ? 1 : clip) / o.grad_scale;
}

adamp::Control World::control(size_t process) const {
  const Options& o = case_.options;
  adamp::Control control = {};
  if (o.grad_scale != 1) {
    control.grad_scale = static_cast<const float*>(grad_scale_.data());
    control.found_inf = static_cast<const float*>(found_inf_.data());
    control.steps_skipped = steps_skipped_[process].get();
  }
  if (o.max_norm > 0) {
    control.max_norm = o.max_norm;
    control.grad_norm = grad_norm_.data();
    control.norm_dtype = case_.method == Method::kAdamP ? DType::kFloat32 : DType::kFloat64;
  }
  return control;
}

std::string World::check_control(int number) const {
  int64_t skipped = 0;
  for (int step = 0; step <= number; ++step) skipped += skips(step);
  for (const auto& counted : steps_skipped_) {
    if (*counted != skipped) return "counts another number of skipped steps";
  }
  for (const Tensor& t : tensors_) {
    if (t.count.data() != nullptr && t.count.get(0) != made(t, number + 1)) return "another count";
  }
  if (case_.options.max_norm > 0 && !skips(number)) {
    const double got = grad_norm_.get(0), want = norm(number);
    const bool both_nan = std::isnan(got) && std::isnan(want);
    if (!both_nan && !(std::fabs(got - want) <= 1e-5 * want)) return "another norm";
  }
  return "";
}

// The first half of a process's step, or all of it.
void World::run_part(adamp::Executor& executor, size_t process, int number) {
  std::vector<const void*> grads;
  std::vector<int32_t> indices;
  std::vector<Hyper> hypers;
  for (size_t t = 0; t < tensors_.size(); ++t) {
    if (process >= tensors_[t].parts.size()) continue;
    const Array& grad = tensors_[t].parts[process].grads[number];
    grads.push_back(has_grad(tensors_[t], number) ? grad.data() : nullptr);
    if (hypers.empty() || own_hypers(number)) {
      hypers.push_back(hyper(t, number));
      // Must not be used.
      StepNumbers& n = hypers.back().numbers;
      if (hypers.back().device_lr != nullptr) n.lr = NAN;
      if (hypers.back().device_weight_decay != nullptr) n.weight_decay = NAN;
      if (case_.options.counts_on_device)
        n.inv_bias_correction1 = n.inv_root_bias_correction2 = NAN;
    }
    indices.push_back(static_cast<int32_t>(hypers.size()) - 1);
  }
  executor.run({grads.data(), indices.data(), hypers.data(), static_cast<int64_t>(hypers.size()), 1,
                nullptr, control(process), device().capturing});
}

void World::step(const Executors& executors, int number) {
  // What is done between launches, when they are.
  const auto in_order = [](const std::function<void()>& work) {
    device().capturing ? device().graph.push_back(work) : work();
  };
  in_order([this, number] {
    found_inf_.set(0, skips(number) ? 1 : 0);
    for (Tensor& t : tensors_) clear(t.parts);
  });
  for (size_t process = 0; process < executors.size(); ++process) {
    run_part(*executors[process], process, number);
  }
  if (executors.size() == 1) return;
  in_order([this, number] {
    for (size_t t = 0; t < tensors_.size(); ++t) {
      const bool steps = has_grad(tensors_[t], number) && !skips(number);
      const TensorSpec& spec = tensors_[t].spec;
      add_up(spec, tensors_[t].parts, hyper(t, number), steps, measures(spec));
    }
  });
  for (const auto& executor : executors) executor->finish();
  in_order([this] {
    for (Tensor& t : tensors_) gather(t, t.parts);
  });
}

uint64_t World::least_vectors(int number) const {
  uint64_t least = 0;
  for (const Tensor& t : tensors_) {
    const TensorSpec& s = t.spec;
    const bool alike = s.moment1_offset == 0 && s.moment2_offset == 0 && s.grad_offset == s.offset;
    if (!alike || !has_grad(t, number) || skips(number) || t.parts.size() > 1) continue;
    const int64_t in_a_pack = 16 / adamp::size_of(s.dtype);
    least += t.p.count() / (2 * in_a_pack);  // short rows in pieces may have as many single ones
  }
  return least;
}

void World::restart() {
  for (const auto& skipped : steps_skipped_) *skipped = 0;
  for (Tensor& t : tensors_) {
    size_t at = 0;
    for (Array* array : {&t.p, &t.m, &t.v, &t.view, &t.count}) {
      const size_t size = array->save().size();
      array->load({t.start.begin() + at, t.start.begin() + at + size});
      at += size;
    }
    for (int i = 0; i < kStatFields; ++i) t.stats.set(i, 0);
    scatter(t, t.parts);
  }
}

bool World::can_measure() const {
  adamp::KernelChoice kernel = {case_.method, adamp::TypeSet::kFloat32, true};
  for (const TensorSpec& spec : case_.tensors) {
    kernel.types = std::max(kernel.types, adamp::type_set_of(spec.dtype));
  }
  return is_compiled(kernel);
}

void World::run(int blocks, int resident, uint64_t seed, bool measured) {
  measured_ = measured;
  const uint64_t vectors_before = vector_accesses;
  restart();
  const Executors executors = make_executors(blocks);
  device().schedule.seed = seed;
  device().schedule.resident = resident;
  device().graph.clear();
  device().capturing = case_.is_captured;
  for (int number = 0; number < case_.steps; ++number) step(executors, number);
  device().capturing = false;
  for (const auto& node : device().graph) node();
  vectors_ = vector_accesses - vectors_before;
}

std::string World::run_first() {
  measured_ = can_measure();
  std::vector<adamp::TensorStats> want_stats(tensors_.size());
  const Executors executors = make_executors(1);
  const uint64_t vectors_before = vector_accesses;
  device().schedule = Schedule();
  for (int number = 0; number < case_.steps; ++number) {
    std::vector<Values> want;
    std::vector<View> before;
    for (size_t t = 0; t < tensors_.size(); ++t) {
      draw_gradient(tensors_[t].grads[number], tensors_[t].p, tensors_[t].spec, t, number,
                    hyper(t, number));
      scatter_gradient(tensors_[t], tensors_[t].parts, number);
      before.push_back(view_of(tensors_[t].view));
    }
    for (const Tensor& tensor : tensors_) want.push_back(read(tensor, number));
    const uint64_t wide_before = vector_accesses;
    step(executors, number);
    if (vector_accesses - wide_before < least_vectors(number)) return "accesses are narrow";
    for (size_t t = 0; t < tensors_.size(); ++t) {
      const Tensor& tensor = tensors_[t];
      const std::string name =
          "step " + std::to_string(number) + ", tensor " + std::to_string(t) + ": ";
      View view = before[t];
      if (has_grad(tensor, number) && !skips(number)) {
        view = oracle_step(want[t], tensor.spec.rows, tensor.spec.cols, case_.method,
                           tensor.spec.dtype, tensor.spec.projection, hyper(t, number),
                           measures(tensor.spec) ? &want_stats[t] : nullptr);
        ++outcomes[static_cast<int>(view)];
        changes += view != before[t];
      }
      if (tensor.spec.projection == Projection::kAuto && view_of(tensor.view) != view) {
        return name + "another outcome";
      }
      const std::string wrong = check(tensor, want[t], want_stats[t]);
      if (!wrong.empty()) return name + wrong;
    }
    const std::string wrong = check_control(number);
    if (!wrong.empty()) return "step " + std::to_string(number) + ": " + wrong;
  }
  for (Tensor& t : tensors_) {
    t.end = save(t);
    t.end_stats = t.stats.save();
  }
  first_vectors_ = vector_accesses - vectors_before;
  return "";
}

std::string World::check(const Tensor& t, const Values& want,
                         const adamp::TensorStats& want_stats) const {
  const Tolerance bound = tolerance(t.spec.dtype);
  // `before`: a rounding, which an error may be relative to as well.
  const auto differ = [&](const Array& got, const std::vector<double>& expected,
                          const std::vector<double>& before, double relative, double absolute,
                          const char* what) -> std::string {
    for (int64_t i = 0; i < got.count(); ++i) {
      if (std::isnan(got.get(i)) && std::isnan(expected[i])) continue;
      if (got.get(i) == expected[i]) continue;  // infinite, perhaps
      if (!(std::fabs(got.get(i) - expected[i]) <=
            relative * std::max(std::fabs(expected[i]), std::fabs(before[i])) + absolute)) {
        return std::string(what) + " " + std::to_string(i) + " is " + std::to_string(got.get(i)) +
               ", want " + std::to_string(expected[i]);
      }
    }
    return "";
  };
  // A moment may come out as the neighbour of what the oracle rounded it to, before a projection.
  const double unit = 2 * bound.relative;
  std::string wrong =
      differ(t.p, want.p, want.p, bound.relative, bound.of_step * case_.options.lr, "weight");
  if (wrong.empty()) {
    wrong = differ(t.m, want.m, want.unprojected, unit, bound.relative, "first moment");
  }
  if (wrong.empty() && t.v.data() != nullptr) {
    wrong = differ(t.v, want.v, want.v, unit, bound.relative * 1e-3, "second moment");
  }
  if (!wrong.empty()) return wrong;
  adamp::TensorStats stats;
  std::memcpy(&stats, t.stats.data(), sizeof stats);
  return check_stats(stats, want_stats, t.spec.dtype);
}

std::string World::compare() const {
  // Statistics need no second pass over memory.
  if (vectors_ != first_vectors_) return "memory is passed over another number of times";
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const Tensor& tensor = tensors_[t];
    if (save(tensor) != tensor.end) return "other bits in tensor " + std::to_string(t);
    if (measured_ && tensor.stats.save() != tensor.end_stats) {
      return "other bits in the statistics of tensor " + std::to_string(t);
    }
  }
  return "";
}

uint64_t World::digest() const {
  uint64_t hash = kEmptyHash;
  for (const Tensor& t : tensors_) add_to_hash(hash, t.end);
  return hash;
}

uint64_t World::digest_of_stats() const {
  uint64_t hash = kEmptyHash;
  for (const Tensor& t : tensors_) add_to_hash(hash, t.end_stats);
  return hash;
}

Values World::read(const Tensor& t, int step) const {
  const double by = factor(step);
  Values x;
  for (int64_t i = 0; i < t.p.count(); ++i) {
    x.p.push_back(t.p.get(i));
    x.m.push_back(t.m.get(i));
    x.v.push_back(t.v.data() == nullptr ? 0 : t.v.get(i));
    x.g.push_back(by * t.grads[step].get(i));
  }
  x.unprojected = x.m;
  return x;
}

std::vector<unsigned char> World::save(const Tensor& t) {
  std::vector<unsigned char> all;
  for (const Array* array : {&t.p, &t.m, &t.v, &t.view, &t.count}) {
    const std::vector<unsigned char> bytes = array->save();
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  return all;
}

}  // namespace emulation
