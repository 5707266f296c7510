// Tensors of which several processes have parts, and what stands in for the processes' collective.
#pragma once

#include <vector>

#include "cases.h"
#include "storage.h"

namespace emulation {

// A tensor's memory, or that of a part of it.
struct Arrays {
  int64_t rows = 0, cols = 0;
  Array p, m, v;
  Array view;                // an int32
  Array count;               // a float, or a double beside doubles; none where the host counts
  Array stats;               // a TensorStats
  std::vector<Array> grads;  // of each step

  Arrays() = default;
  Arrays(const Case& c, const TensorSpec& spec, int64_t rows, int64_t cols);
};

// What one process has of a tensor: a part, or all of it, in the same memory.
struct Part : Arrays {
  int64_t first_row = 0, first_col = 0;
  bool needs_sums = false;  // of others, to be updated
  Array sums;               // a ShardSums, of a tensor that has parts
  Array row_sums;           // where rows have parts elsewhere, and are tested
  Array stat_sums;          // a ShardStats
  Array max_cosine;

  adamp::Shard shard(const TensorSpec& whole, bool measured) const;
};

// One for each process, or a single one.
std::vector<Part> parts_of(const Case& c, const TensorSpec& spec, const Arrays& whole);

// Copies to the parts what a tensor holds before the first step, the gradients of a step, and back
// what a step has changed; a Fault where parts differ in what should be equal. Not between a tensor
// and a single part, which are one.
void scatter(const Arrays& whole, std::vector<Part>& parts);
void scatter_gradient(const Arrays& whole, std::vector<Part>& parts, int step);
void gather(Arrays& whole, const std::vector<Part>& parts);

// Before a step: no part has left anything.
void clear(std::vector<Part>& parts);

// Between launch() and finish(): adds up what the parts have left, and tests rows that no process
// has whole. `steps`: whether each has stepped; a Fault where one says otherwise. `measured`: they
// have left what statistics need, too.
void add_up(const TensorSpec& whole, std::vector<Part>& parts, const adamp::Hyper& h, bool steps,
            bool measured);

}  // namespace emulation
