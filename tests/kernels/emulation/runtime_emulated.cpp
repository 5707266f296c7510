// csrc/cuda/runtime.h on the CPU: memory, copies that come late, and launches on fibers.
#include "runtime_emulated.h"

#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "../../../csrc/cuda/runtime.h"
#include "kernel_emulated.h"
#include "races.h"

namespace emulation {
namespace {

// A copy on the stream, which need not be made before the next launch looks for it.
struct PendingCopy {
  void* to;
  const void* from;
  size_t bytes;
};
std::vector<PendingCopy> stream;

void run_stream() {
  for (const PendingCopy& copy : stream) {
    std::memcpy(copy.to, copy.from, copy.bytes);
    races::host_writes(copy.to, copy.bytes);
  }
  stream.clear();
}

}  // namespace

Device& device() {
  static Device value;
  return value;
}

std::shared_ptr<void> allocate(int64_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, static_cast<size_t>(bytes)) != 0) throw std::bad_alloc();
  std::memset(memory, 0xff, static_cast<size_t>(bytes));
  races::add_memory(memory, static_cast<size_t>(bytes), 4, "scratch or table", false);
  return {memory, [](void* at) {
            races::remove_memory(at);
            std::free(at);
          }};
}

}  // namespace emulation

namespace adamp {

using emulation::device;

void device_upload(void* to, const void* from, size_t bytes, void*) {
  if (device().capturing) throw emulation::Fault("waits for a copy while it is captured");
  std::memcpy(to, from, bytes);
  emulation::races::host_writes(to, bytes);
}

bool is_capturing(void*) { return device().capturing; }

class StagingRing {
 public:
  explicit StagingRing(size_t bytes) : buffers_(2, std::vector<unsigned char>(bytes)) {}

  void* next() {
    emulation::run_stream();  // so that no buffer is handed out that is still to be copied
    turn_ = (turn_ + 1) % buffers_.size();
    current_ = buffers_[turn_].data();
    return current_;
  }
  void* next_captured() {
    captured_.emplace_back(buffers_[0].size());
    current_ = captured_.back().data();
    return current_;
  }
  const void* current() const { return current_; }

 private:
  std::vector<std::vector<unsigned char>> buffers_;
  std::deque<std::vector<unsigned char>> captured_;
  size_t turn_ = 0;
  void* current_ = nullptr;
};

StagingRing* make_staging_ring(size_t bytes_each) { return new StagingRing(bytes_each); }
void free_staging_ring(StagingRing* ring) { delete ring; }
void* next_staging_buffer(StagingRing* ring, bool is_captured) {
  return is_captured ? ring->next_captured() : ring->next();
}
void upload_staged(StagingRing* ring, void* to, size_t bytes, void*) {
  const emulation::PendingCopy copy = {to, ring->current(), bytes};
  if (device().capturing) {
    device().graph.push_back([copy] { emulation::stream.push_back(copy); });
    return;
  }
  emulation::stream.push_back(copy);
  ++device().staged_copies;
}

int resident_blocks(const KernelChoice&) { return device().blocks; }

void launch_step(const KernelChoice& kernel, int blocks, const KernelArgs& args, void* stream) {
  if (device().capturing) {
    // As a graph does: with the values that the arguments have now.
    device().graph.push_back([=] { launch_step(kernel, blocks, args, stream); });
    return;
  }
  if (blocks < 1) throw emulation::Fault("launches no blocks");
  if (args.n_tasks == 0 && args.blocks_left == nullptr && args.control.steps_skipped == nullptr) {
    throw emulation::Fault("launches for nothing");
  }
  emulation::run_stream();
  if (device().launch) return device().launch(args);
  const emulation::Schedule schedule = device().schedule;
  ++device().schedule.seed;
  emulation::launch_kernel(kernel, blocks, args, schedule);
  // A counter that is left over need not make the next step wrong, but may make it slow.
  bool left = *args.next_task != 0 || (args.blocks_left != nullptr && *args.blocks_left != 0);
  if (args.norm != nullptr) left |= args.norm->arrived != 0 || args.norm->known != 0;
  for (int t = 0; t < args.n_tensors; ++t) {
    const Decision& decision = args.decisions[t];
    for (const uint32_t counter : {decision.arrived, decision.failed, decision.pending,
                                   decision.fixed_up, decision.decided}) {
      left |= counter != 0;
    }
  }
  if (left) throw emulation::Fault("a counter is not zero after the launch");
}

}  // namespace adamp
