// The host side of the CUDA step: tables made once, one launch per step; two where a tensor has
// parts in other processes.
//
// No CUDA header: the runtime is behind runtime.h, so that the tests run this file too.
#include <algorithm>
#include <cstring>
#include <deque>
#include <stdexcept>

#include "kernel_args.h"
#include "runtime.h"

namespace adamp {
namespace {

bool needs_decision(const DeviceTensor& tensor) {
  return adamp::needs_decision(tensor.info.projection, tensor.is_one_tile != 0,
                               tensor.rows_are_split != 0);
}

bool is_shard(const TensorInfo& info) { return info.shard.sums != nullptr; }

// Whether the tiles leave sums, for the last one to add up: for a decision or for statistics.
bool leaves_sums(const DeviceTensor& tensor) {
  return needs_decision(tensor) || (tensor.info.stats != nullptr && !tensor.is_one_tile);
}

// Bytes of what a tile leaves, and of the record of a row.
int64_t slot_size(DType dtype, bool measures) {
  if (dtype == DType::kFloat64)
    return measures ? sizeof(Slot<double, true>) : sizeof(Slot<double, false>);
  return measures ? sizeof(Slot<float, true>) : sizeof(Slot<float, false>);
}
int64_t record_size(DType dtype) {
  return dtype == DType::kFloat64 ? sizeof(RowRecord<double>) : sizeof(RowRecord<float>);
}

class Tables {
 public:
  std::vector<DeviceTensor> tensors;
  std::vector<Tile> tiles;
  std::vector<Task> tasks;
  int64_t scratch_bytes = 0;
  uint32_t n_norm_tasks = 0;  // the first of `tasks`
  int64_t n_first_tasks = 0;  // those of the first launch of a step; see Part

  // `resident`: blocks that run at a time. A tensor's fix-up tasks follow its last accumulate task
  // by three times as many others, so that the block that takes one finds the tensor decided, and
  // its data still in L2. They come one at a time between others: many in a row, of a resolved
  // tensor, would leave the memory idle. Where no other work is left, there is about one for each
  // block.
  //
  // Shards have theirs at the end, in a launch of its own, behind the decisions of all.
  //
  // clips: norm tasks come before all others, those first whose tiles are accumulated last: what
  // was squared last is accumulated first, and is still in L2.
  //
  // measures: the tables are for kernels that measure.
  Tables(const std::vector<TensorInfo>& infos, int64_t resident, bool clips, bool measures)
      : measures_(measures) {
    for (size_t t = 0; t < infos.size(); ++t)
      tensors.push_back(tensor_of(infos[t], static_cast<int32_t>(t)));
    // Large tensors first, so that blocks run out of work at about the same time.
    std::vector<int32_t> order(infos.size());
    for (size_t t = 0; t < order.size(); ++t) order[t] = static_cast<int32_t>(t);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return tensors[a].tile_count > tensors[b].tile_count;
    });
    const int64_t lag = ADAMP_FIXUP_LAG * resident;
    for (const int32_t t : order) {
      for (int64_t i = 0; i < tensors[t].tile_count; ++i) {
        tasks.push_back({tensors[t].first_tile + i, 1, t, TaskKind::kAccumulate});
        if (!to_fix_up_.empty() && to_fix_up_.front().not_before <= n_tasks()) {
          add_fix_up_task(kTilesPerFixUp);
        }
      }
      if (needs_decision(tensors[t]) && !is_shard(infos[t])) {
        to_fix_up_.push_back({n_tasks() + lag, t, 0});
      }
    }
    add_all_fix_up_tasks(resident);
    if (clips) add_norm_tasks(order);
    n_first_tasks = n_tasks();
    add_tasks_of_shards(order, resident);
    if (tasks.size() > UINT32_MAX / 2) {
      throw std::length_error("adamp_fused: more than 2^31 work tiles in one step");
    }
  }

 private:
  // A tensor whose tiles all have accumulate tasks, and the first that has no fix-up task yet.
  struct ToFixUp {
    int64_t not_before;  // this many tasks
    int32_t tensor;
    int64_t next_item;
  };
  std::deque<ToFixUp> to_fix_up_;
  const bool measures_;

  int64_t n_tasks() const { return static_cast<int64_t>(tasks.size()); }

  DeviceTensor tensor_of(const TensorInfo& info, int32_t index) {
    DeviceTensor tensor = {};
    tensor.info = info;
    const int64_t tile = tile_elements(info.dtype);
    tensor.rows_are_thin = has_thin_rows(info) && info.shard.row_sums == nullptr;
    const TileRange added =
        append_tiles(tiles, info, index, tile, tensor.rows_are_thin ? tile : max_rows(info.dtype));
    tensor.first_tile = added.first;
    tensor.tile_count = added.count;
    tensor.is_one_tile = added.count <= 1 && !is_shard(info);
    tensor.rows_span_tiles = added.count > info.rows;
    tensor.rows_are_split = tensor.rows_span_tiles || info.shard.row_sums != nullptr;
    const auto boundary = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % 16; };
    tensor.vectorized = boundary(info.param) == boundary(info.moment1) &&
                        (info.moment2 == nullptr || boundary(info.param) == boundary(info.moment2));
    if (leaves_sums(tensor)) {
      tensor.slots = reserve(added.count * slot_size(info.dtype, measures_));
      const bool keeps_rows =
          needs_decision(tensor) && !tensor.rows_are_thin && info.shard.row_sums == nullptr;
      tensor.records = reserve((1 + (keeps_rows ? info.rows : 0)) * record_size(info.dtype));
    }
    return tensor;
  }

  // order: of tensors, as their tiles are accumulated.
  void add_norm_tasks(const std::vector<int32_t>& order) {
    std::vector<Task> all;
    for (auto t = order.rbegin(); t != order.rend(); ++t) {
      const DeviceTensor& tensor = tensors[*t];
      for (int64_t end = tensor.tile_count; end > 0; end -= kTilesPerNorm) {
        const int64_t first = std::max<int64_t>(end - kTilesPerNorm, 0);
        all.push_back({tensor.first_tile + first, end - first, *t, TaskKind::kNorm});
      }
    }
    n_norm_tasks = static_cast<uint32_t>(all.size());
    all.insert(all.end(), tasks.begin(), tasks.end());
    tasks = std::move(all);
  }

  int64_t reserve(int64_t bytes) {
    const int64_t at = scratch_bytes;
    scratch_bytes += (bytes + 15) / 16 * 16;
    return at;
  }

  // The tasks of the second launch. order: see above.
  void add_tasks_of_shards(const std::vector<int32_t>& order, int64_t resident) {
    for (const int32_t t : order) {
      if (!is_shard(tensors[t].info) || !leaves_sums(tensors[t])) continue;
      tasks.push_back({0, 0, t, TaskKind::kDecide});
      ++tensors[t].fix_up_tasks;
      const bool may_fix_up = needs_decision(tensors[t]) && tensors[t].tile_count > 0;
      if (may_fix_up) to_fix_up_.push_back({0, t, 0});
    }
    if (tiles.empty()) tiles.emplace_back();  // each task has a first
    add_all_fix_up_tasks(resident);
  }

  void add_all_fix_up_tasks(int64_t resident) {
    while (!to_fix_up_.empty()) {
      const int64_t tiles = tensors[to_fix_up_.front().tensor].tile_count;
      add_fix_up_task(std::max(kTilesPerFixUp, (tiles + resident - 1) / resident));
    }
  }

  void add_fix_up_task(int64_t tiles) {
    ToFixUp& waiting = to_fix_up_.front();
    DeviceTensor& tensor = tensors[waiting.tensor];
    const int64_t count = std::min(tiles, tensor.tile_count - waiting.next_item);
    tasks.push_back(
        {tensor.first_tile + waiting.next_item, count, waiting.tensor, TaskKind::kFixUp});
    ++tensor.fix_up_tasks;
    waiting.next_item += count;
    if (waiting.next_item == tensor.tile_count) to_fix_up_.pop_front();
  }
};

class CudaExecutor : public Executor {
 public:
  CudaExecutor(Method method, const std::vector<TensorInfo>& infos, bool clips,
               const Allocate& allocate, void* stream)
      : kernel_{method, TypeSet::kFloat32, false}, n_tensors_(static_cast<int64_t>(infos.size())) {
    for (const TensorInfo& info : infos) {
      kernel_.types = std::max(kernel_.types, type_set_of(info.dtype));
      kernel_.measures |= info.stats != nullptr;
    }
    resident_ = resident_blocks(kernel_);
    const Tables tables(infos, resident_, clips, kernel_.measures);
    const auto upload = [&](const auto& values) {
      using Value = typename std::decay_t<decltype(values)>::value_type;
      memory_.push_back(allocate(static_cast<int64_t>(values.size() * sizeof(Value)) + 1));
      if (!values.empty()) {
        device_upload(memory_.back().get(), values.data(), values.size() * sizeof(Value), stream);
      }
      return static_cast<Value*>(memory_.back().get());
    };
    args_.tensors = upload(tables.tensors);
    args_.tiles = upload(tables.tiles);
    tasks_ = upload(tables.tasks);
    n_tasks_ = static_cast<int64_t>(tables.tasks.size());
    n_first_tasks_ = tables.n_first_tasks;
    args_.decisions = upload(std::vector<Decision>(infos.size(), Decision{}));
    args_.next_task = upload(std::vector<uint32_t>(1, 0));
    const bool counts = std::any_of(infos.begin(), infos.end(),
                                    [](const TensorInfo& info) { return info.count != nullptr; });
    has_shards_ = std::any_of(infos.begin(), infos.end(), is_shard);
    if (clips && has_shards_) {
      throw std::invalid_argument("adamp_fused: no plan finds the norm of what is elsewhere");
    }
    if (counts || clips || has_shards_) args_.blocks_left = upload(std::vector<uint32_t>(1, 0));
    if (clips) {
      args_.norm = upload(std::vector<Norm>(1, Norm{}));
      args_.squares = upload(std::vector<double>(tables.n_norm_tasks, 0));
      args_.n_norm_tasks = tables.n_norm_tasks;
    }
    memory_.push_back(allocate(tables.scratch_bytes + 1));
    args_.scratch = static_cast<unsigned char*>(memory_.back().get());
    args_.n_tensors = static_cast<int32_t>(n_tensors_);
    // As many different options and step counts as there are tensors.
    const int64_t most = step_values_size(n_tensors_, n_tensors_);
    if (most > kInlineCapacity) {
      ring_.reset(make_staging_ring(most));
      memory_.push_back(allocate(most));
      device_values_ = static_cast<unsigned char*>(memory_.back().get());
    }
  }

  void prepare(const StepInputs& inputs) override {
    stream_ = inputs.stream;
    const int64_t size = step_values_size(n_tensors_, inputs.n_hypers);
    args_.n_hypers = static_cast<int32_t>(inputs.n_hypers);
    args_.control = inputs.control;
    if (size <= kInlineCapacity) {
      args_.step_values = nullptr;
      fill(args_.inline_values, inputs);
    } else {
      void* const buffer = next_staging_buffer(ring_.get(), inputs.is_captured);
      fill(static_cast<unsigned char*>(buffer), inputs);
      upload_staged(ring_.get(), device_values_, size, inputs.stream);
      args_.step_values = device_values_;
    }
  }

  bool launch() override {
    // Where there is nothing to step a skip is counted all the same, and so is a tensor's step; and
    // other processes are told of a shard that has nothing here.
    const bool idle = n_first_tasks_ == 0 && args_.blocks_left == nullptr &&
                      args_.control.steps_skipped == nullptr;
    if (!idle) launch_tasks(has_shards_ ? Part::kFirst : Part::kWhole, 0, n_first_tasks_);
    return true;
  }

  void finish() override { launch_tasks(Part::kSecond, n_first_tasks_, n_tasks_); }

 private:
  void launch_tasks(Part part, int64_t first, int64_t end) {
    args_.part = part;
    args_.tasks = tasks_ + first;
    args_.n_tasks = static_cast<uint32_t>(end - first);
    const auto blocks = std::clamp<int64_t>(end - first, 1, resident_);
    launch_step(kernel_, static_cast<int>(blocks), args_, stream_);
  }

  void fill(unsigned char* to, const StepInputs& inputs) const {
    const auto append = [&to](const void* from, size_t bytes) {
      std::memcpy(to, from, bytes);
      to += bytes;
    };
    append(inputs.grads, n_tensors_ * sizeof(void*));
    append(inputs.hypers, inputs.n_hypers * sizeof(Hyper));
    append(inputs.hyper_indices, n_tensors_ * sizeof(int32_t));
  }

  struct FreeRing {
    void operator()(StagingRing* ring) const { free_staging_ring(ring); }
  };

  KernelChoice kernel_;
  int64_t n_tensors_;
  int resident_ = 0;
  void* stream_ = nullptr;  // of the step that was prepared
  std::vector<std::shared_ptr<void>> memory_;
  const Task* tasks_ = nullptr;
  int64_t n_tasks_ = 0, n_first_tasks_ = 0;
  bool has_shards_ = false;
  KernelArgs args_ = {};
  std::unique_ptr<StagingRing, FreeRing> ring_;
  unsigned char* device_values_ = nullptr;
};

}  // namespace

std::unique_ptr<Executor> make_cuda_executor(Method method, std::vector<TensorInfo> tensors,
                                             bool clips, const Allocate& allocate, void* stream) {
  return std::make_unique<CudaExecutor>(method, tensors, clips, allocate, stream);
}

}  // namespace adamp
