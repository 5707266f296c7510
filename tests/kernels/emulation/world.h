// A case brought to life: its tensors, an executor for each process that has parts of them, and
// gradients that lead to each outcome in turn.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cases.h"
#include "oracle.h"
#include "parts.h"

namespace emulation {

class World {
 public:
  explicit World(const Case& c);

  // Whether this build has the kernels that leave statistics of the case.
  bool can_measure() const;

  // All steps from the start, at most `blocks` blocks, so many of them resident. Throws Fault.
  void run(int blocks, int resident, uint64_t seed, bool measured);

  // The first run, which measures where it can: draws the gradients, and compares every step with
  // the oracle. What is wrong, or "".
  std::string run_first();

  // What is not equal, bit by bit, to what the first run came to, or "".
  std::string compare() const;

  // A number that follows from every bit of it; statistics have one of their own.
  uint64_t digest() const;
  uint64_t digest_of_stats() const;

  // Tensor-steps of each outcome, and those whose outcome was not the last one.
  int outcomes[3] = {}, changes = 0;

 private:
  struct Tensor : Arrays {
    TensorSpec spec;
    std::vector<Part> parts;  // of each process, or that of the first
    std::vector<unsigned char> start, end, end_stats;
  };
  using Executors = std::vector<std::unique_ptr<adamp::Executor>>;  // of each process

  bool has_grad(const Tensor& t, int step) const {
    return t.spec.no_grad_in != step && case_.idle_in != step && t.p.count() > 0;
  }
  bool own_hypers(int step) const { return case_.own_hypers && step % 2 == 0; }
  adamp::Hyper hyper(size_t tensor, int step) const;
  // Steps that a tensor has made before this one, as far as corrections of the bias go.
  double made(const Tensor& tensor, int step) const;
  void step(const Executors& executors, int number);
  void run_part(adamp::Executor& executor, size_t process, int number);
  std::string check(const Tensor& tensor, const Values& want,
                    const adamp::TensorStats& want_stats) const;
  Values read(const Tensor& tensor, int step) const;
  static std::vector<unsigned char> save(const Tensor& tensor);
  Executors make_executors(int blocks) const;
  // Vector16 accesses that a step makes at least, of tensors whose arrays lie alike.
  uint64_t least_vectors(int number) const;
  void restart();

  bool measures(const TensorSpec& spec) const { return measured_ && spec.is_measured; }
  bool skips(int step) const { return case_.skipped_in == step; }
  // What the stored gradients of a step are multiplied by, and their norm before that is clipped.
  double factor(int step) const;
  double norm(int step) const;
  adamp::Control control(size_t process) const;
  // What of the step is wrong beside the tensors, or "".
  std::string check_control(int number) const;

  const Case& case_;
  bool measured_ = false;                     // the running or last run
  uint64_t vectors_ = 0, first_vectors_ = 0;  // Vector16 accesses of the last and the first run
  Array device_lr_, device_decay_, grad_scale_, found_inf_, grad_norm_;
  std::vector<Tensor> tensors_;
  std::vector<std::shared_ptr<int64_t>> steps_skipped_;  // of each process
};

}  // namespace emulation
