// The CPU step's own memory: threads ask for none while they work, and what they were given is
// enough (AddressSanitizer watches).
//
// The executor is the real one; its row loops are replaced by ones that touch all of what they were
// given, and no tensor. Prints what is wrong, a line each.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <thread>

#include "../../../csrc/core/params.h"
#include "../../../csrc/cpu/row_loops.h"

namespace {

thread_local bool works = false;  // on a step
std::atomic<int> allocations_at_work{0};

void* allocate(size_t size) {
  if (works) ++allocations_at_work;
  if (void* const memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(size_t size) { return allocate(size); }
void* operator new[](size_t size) { return allocate(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace adamp {

namespace {

int64_t size_of_u;
double cosine_of_rows;

void write_all(void* kept, const Block& block) {
  if (kept != nullptr) std::memset(kept, 1, block.numel() * size_of_u);
}

void read_all(const void* kept, const Block& block) {
  volatile int64_t sum = 0;
  if (kept == nullptr) return;
  for (int64_t i = 0; i < block.numel() * size_of_u; ++i) {
    sum = sum + static_cast<const char*>(kept)[i];
  }
}

void read_all(const Behind& behind) {
  volatile int64_t active = 0;
  for (int64_t row = 0; row < behind.block.rows; ++row) active = active + behind.rows[row].active;
  read_all(behind.kept, behind.block);
}

struct Shape {
  int64_t rows, cols;
};

// One tile: as many rows, and as many elements, as there can be. Several: rows that share a block,
// that fill one, that are split, and of one element.
const std::vector<Shape> kShapes = {{16384, 1}, {1, 16384}, {4, 4096},  {127, 129},
                                    {300, 257}, {8, 2049},  {3, 60000}, {2, 70000},
                                    {3000, 9},  {40000, 1}, {600, 64},  {1, 1}};

struct Step {
  Method method;
  DType dtype;
  Projection projection;
  View last;
  bool passes, nesterov;
  int64_t threads;
};

void team(int64_t threads, const std::function<void(int64_t)>& body) {
  std::vector<std::thread> all;
  for (int64_t k = 0; k < threads; ++k) {
    all.emplace_back([k, &body] {
      works = true;
      body(k);
      works = false;
    });
  }
  for (std::thread& thread : all) thread.join();
}

// Two steps; how often a thread asked for memory.
int run(const Step& step, const std::vector<Shape>& shapes) {
  size_of_u = step.dtype == DType::kFloat64 ? 8 : 4;
  cosine_of_rows = step.passes ? 0 : 1;
  std::vector<int32_t> views(shapes.size());
  std::vector<TensorInfo> infos;
  for (size_t t = 0; t < views.size(); ++t) {
    infos.push_back({nullptr, nullptr, nullptr, &views[t], shapes[t].rows, shapes[t].cols,
                     step.dtype, step.projection});
  }
  const std::vector<const void*> grads(infos.size(), &infos);
  Hyper hyper = {};
  hyper.numbers = {1e-3, 1e-3, 1, 1};
  hyper.wd_ratio = hyper.eps = 0.1;
  hyper.delta = 0.1;
  hyper.decay_factor = 1;
  hyper.beta1 = hyper.beta2 = hyper.one_minus_beta1 = 0.5;
  hyper.nesterov = step.nesterov;
  const std::vector<int32_t> indices(infos.size(), 0);
  const auto executor = make_cpu_executor(step.method, infos, false, team);
  allocations_at_work = 0;
  for (int i = 0; i < 2; ++i) {
    views.assign(views.size(), static_cast<int32_t>(step.last));
    // A team of one is the caller.
    works = step.threads == 1 && i == 1;
    executor->run({grads.data(), indices.data(), &hyper, 1, step.threads, nullptr});
    works = false;
  }
  return allocations_at_work;
}

}  // namespace

const RowLoops& row_loops(Method, DType) {
  static RowLoops loops = {};
  loops.accumulate = [](const Block& block, const ScalarPair&, Accumulate, RowUpdate<double>,
                        RowSums<double>* sums, double*, void* kept, const Behind* behind) {
    if (behind != nullptr) read_all(*behind);
    write_all(kept, block);
    for (int64_t i = 0; sums != nullptr && i < block.rows; ++i) sums[i] = {1, 1, cosine_of_rows, 1};
  };
  loops.apply_kept = [](const Behind& behind, const ScalarPair&) { read_all(behind); };
  loops.apply = [](const Block&, const ScalarPair&, RowUpdate<double>, const RowUpdate<double>*) {};
  loops.thin_rows_pass = [](const Block&, const ScalarPair&, double) {
    return cosine_of_rows == 0;
  };
  loops.project_thin_rows = [](const Block& block, const ScalarPair&, const void* kept,
                               const RowUpdate<double>*) { read_all(kept, block); };
  return loops;
}

}  // namespace adamp

int main() {
  using namespace adamp;
  for (const Method method : {Method::kAdamP, Method::kSGDP}) {
    for (const DType dtype :
         {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16}) {
      for (const Projection projection :
           {Projection::kAuto, Projection::kChannel, Projection::kLayer, Projection::kOff}) {
        for (const View last : {View::kNone, View::kChannel, View::kLayer}) {
          if (projection != Projection::kAuto && last != View::kNone) continue;
          for (int kind = 0; kind < 8; ++kind) {
            const Step step = {method,        dtype,         projection,      last,
                               kind % 2 == 0, kind / 2 == 0, kind < 4 ? 1 : 3};
            int count = run(step, kShapes);
            // Alone, each has no more than it needs.
            for (const Shape& shape : kShapes) count += run(step, {shape});
            if (count > 0) {
              std::printf("method %d, dtype %d, projection %d, last outcome %d, kind %d: %d\n",
                          static_cast<int>(method), static_cast<int>(dtype),
                          static_cast<int>(projection), static_cast<int>(last), kind, count);
            }
          }
        }
      }
    }
  }
}
