// Takes turns: which fiber runs next, and who waits for whom.
#pragma once

#include <algorithm>

#include "block.h"
#include "races.h"
#include "schedule.h"
#include "stacks.h"

namespace emulation {

// Rounds in which every waiting fiber looked again and none went on.
constexpr int kMostIdleRounds = 64;

class Scheduler {
 public:
  // `entry` runs one fiber from its start to finish_current().
  Scheduler(const Launch& launch, const Schedule& schedule, void (*entry)())
      : launch_(launch),
        schedule_(schedule),
        entry_(entry),
        random_(schedule.seed),
        habits_(random_) {}

  void run() {
    races::begin_launch(launch_.blocks, launch_.threads, launch_.consumers);
    places_.resize(std::clamp(schedule_.resident, 1, launch_.blocks));
    for (Block& place : places_) start_block(place);
    draw_next_access_switch();
    // Fibers switch among themselves; they come back here when a block has ended, and for a fault.
    while (left_ > 0) {
      Fiber& first = *choose();
      enter(&first);
      switch_context(host_, first.context);
      enter(nullptr);
      if (!fault_.empty()) throw Fault(fault_);
      for (Block& place : places_) {
        if (place.done == launch_.threads) end_block(place);
      }
    }
  }

  void barrier(Site site) {
    Block& block = *current_->block;
    if (is_worker() && block.consumers.waiting > 0) fail_elsewhere(site, block.consumers);
    block.workers_at_all += is_worker();
    if (arrive(block.all, site, launch_.threads)) {
      block.workers_at_all = 0;
      races::barrier(block.index);
    }
    switch_away();
  }

  void barrier_of_first(int count, Site site) {
    Block& block = *current_->block;
    if (count != launch_.consumers || !is_worker()) {
      fail("waits at " + text(site) + " for the first " + std::to_string(count) +
           " threads, and the block's consumers are the first " +
           std::to_string(launch_.consumers));
    }
    if (block.workers_at_all > 0) fail_elsewhere(site, block.all);
    if (arrive(block.consumers, site, count)) races::barrier_of_workers(block.index);
    switch_away();
  }

  void exchange(void* value, size_t size, int mask, Site site) {
    Fiber& me = *current_;
    Block& block = *me.block;
    Warp& warp = block.warps[me.thread / kWarpSize];
    const int lane = me.thread % kWarpSize;
    if (warp.gone > 0 || launch_.threads - (me.thread - lane) < kWarpSize) {
      fail("shuffles at " + text(site) + " without all lanes of its warp");
    }
    if (warp.waiting > 0 && !same(warp.site, site)) {
      fail("shuffles at " + text(site) + ", others of its warp at " + text(warp.site));
    }
    warp.site = site;
    auto& values = warp.values[warp.round % 2];
    std::memcpy(values[lane], value, size);
    if (++warp.waiting < kWarpSize) {
      block.leave_ready(me, State::kAtShuffle);
      switch_away();
    } else {
      ++progress_;
      warp.waiting = 0;
      ++warp.round;
      for (Fiber* other = &me - lane; other != &me - lane + kWarpSize; ++other) {
        if (other != &me) block.make_ready(*other);
      }
    }
    std::memcpy(value, values[(lane ^ mask) % kWarpSize], size);
  }

  void pause() {
    Block& block = *current_->block;
    block.leave_ready(*current_, State::kPaused);
    block.paused.push_back(current_->thread);
    switch_away();
  }

  void before_atomic(bool writes) {
    progress_ += writes;
    switch_away();
  }

  void before_access() {
    if (--accesses_to_switch_ != 0) return;
    draw_next_access_switch();
    switch_away();
  }

  void finish_current() {
    Fiber& me = *current_;
    Block& block = *me.block;
    Warp& warp = block.warps[me.thread / kWarpSize];
    if (!canary_lives(me.context.stack)) fail("the fiber's stack overflowed");
    for (const Barrier* barrier : {&block.all, &block.consumers}) {
      if (barrier->waiting == 0) continue;
      fail("returns while others of its block wait at " + text(barrier->site));
    }
    if (warp.waiting > 0) fail("returns while others of its warp shuffle at " + text(warp.site));
    block.leave_ready(me, State::kDone);
    ++warp.gone;
    ++progress_;
    if (++block.done == launch_.threads) leave_context(me.context, host_);
    enter(choose());
    leave_context(me.context, current_->context);
  }

  [[noreturn]] void fail(const std::string& what) {
    // From the host: no fiber was left that could run.
    const Fiber& me = current_ == nullptr ? places_[0].fibers[0] : *current_;
    fault_ = "block " + std::to_string(me.block->index) + ", thread " + std::to_string(me.thread) +
             ": " + what + "  [seed " + std::to_string(schedule_.seed) + ", " +
             std::to_string(places_.size()) + " of " + std::to_string(launch_.blocks) +
             " blocks resident]";
    if (current_ == nullptr) throw Fault(fault_);
    leave_context(current_->context, host_);
    __builtin_unreachable();
  }

  const Launch& launch() const { return launch_; }
  uint64_t vain_rounds() const { return vain_rounds_; }
  Context& host() { return host_; }

 private:
  bool is_worker() const { return current_->thread < launch_.consumers; }

  [[noreturn]] void fail_elsewhere(Site site, const Barrier& barrier) {
    fail("waits at " + text(site) + ", others of its block at " + text(barrier.site));
  }

  // The running fiber waits at a barrier of the block's first `count` threads; true: it was the
  // last, and all of them go on.
  bool arrive(Barrier& barrier, Site site, int count) {
    Fiber& me = *current_;
    Block& block = *me.block;
    Warp& warp = block.warps[me.thread / kWarpSize];
    if (block.done > 0) fail("waits at " + text(site) + ", but a thread of its block has returned");
    if (warp.waiting > 0) {
      fail("waits at " + text(site) + " while others of its warp shuffle at " + text(warp.site));
    }
    if (barrier.waiting > 0 && !same(barrier.site, site)) fail_elsewhere(site, barrier);
    barrier.site = site;
    block.leave_ready(me, State::kAtBarrier);
    ++warp.gone;
    if (++barrier.waiting < count) return false;
    ++progress_;
    barrier.waiting = 0;
    for (int thread = 0; thread < count; ++thread) block.make_ready(block.fibers[thread]);
    for (int w = 0; w * kWarpSize < count; ++w) block.warps[w].gone = 0;
    return true;
  }

  // Says who runs from now on; null: the host.
  void enter(Fiber* fiber) {
    current_ = fiber;
    if (fiber == nullptr) {
      here = Here();
      return;
    }
    here = {fiber->thread,
            launch_.threads,
            fiber->block->index,
            launch_.blocks,
            fiber->block->shared.get(),
            fiber->context.stack,
            fiber->context.size};
  }

  void start_block(Block& block) {
    static Stacks stacks;
    const size_t place = static_cast<size_t>(&block - places_.data());
    block.index = started_++;
    ++left_;
    block.all = block.consumers = Barrier();
    block.workers_at_all = block.done = 0;
    block.last_thread = -1;
    block.warps.assign((launch_.threads + kWarpSize - 1) / kWarpSize, Warp{});
    block.poison_shared(launch_.shared_bytes);
    races::begin_block(block.index, block.shared.get(), launch_.shared_bytes);
    block.fibers.resize(launch_.threads);
    for (int thread = 0; thread < launch_.threads; ++thread) {
      Fiber& fiber = block.fibers[thread];
      fiber.block = &block;
      fiber.thread = thread;
      unsigned char* stack = stacks.get(place, thread, launch_.threads);
      prepare(fiber.context, stack, kStackBytes, entry_);
      place_canary(stack);
      block.make_ready(fiber);
    }
  }

  void end_block(Block& block) {
    races::end_block(block.index);
    block.done = 0;
    --left_;
    if (started_ < launch_.blocks) start_block(block);
  }

  // Lets another fiber run, or the same one where it still can.
  void switch_away() {
    if (++switches_ > schedule_.most_switches) fail("livelock: too many switches");
    Fiber& from = *current_;
    Fiber* to = choose();
    if (to == &from) return;
    enter(to);
    switch_context(from.context, to->context);
  }

  // The fiber that runs next.
  Fiber* choose() {
    const uint32_t n = static_cast<uint32_t>(places_.size());
    if (random_.chance(habits_.wake)) {
      Block& block = places_[random_.below(n)];
      const uint32_t waiting = static_cast<uint32_t>(block.paused.size());
      if (waiting > 0) block.wake(random_.below(waiting));
    }
    uint32_t place = last_place_;
    if (!random_.chance(habits_.stay_in_block)) place = random_.below(n);
    for (uint32_t tried = 0; places_[place].ready.empty(); ++tried) {
      place = place + 1 < n ? place + 1 : 0;
      if (tried == n) wake_all();
    }
    last_place_ = place;
    Block& block = places_[place];
    int thread = block.last_thread + 1 < launch_.threads ? block.last_thread + 1 : 0;
    if (block.fibers[thread].state != State::kReady || !random_.chance(habits_.next_in_order)) {
      thread = block.ready[random_.below(static_cast<uint32_t>(block.ready.size()))];
    }
    block.last_thread = thread;
    return &block.fibers[thread];
  }

  // Nobody can run but those who wait for a change: they look again, a few times in vain at most.
  void wake_all() {
    bool any = false;
    for (Block& block : places_) {
      any |= !block.paused.empty();
      while (!block.paused.empty()) block.wake(block.paused.size() - 1);
    }
    const bool in_vain = progress_ == progress_when_idle_;
    vain_rounds_ += in_vain;
    idle_rounds_ = in_vain ? idle_rounds_ + 1 : 0;
    progress_when_idle_ = progress_;
    if (any && idle_rounds_ < kMostIdleRounds) return;
    std::string all = "deadlock";
    for (const Block& block : places_) all += "; " + describe(block);
    fail(all);
  }

  void draw_next_access_switch() {
    accesses_to_switch_ =
        habits_.access_period == 0 ? 0 : 1 + random_.below(2 * habits_.access_period);
  }

  const Launch& launch_;
  const Schedule& schedule_;
  void (*const entry_)();
  Random random_;
  const Habits habits_;
  std::vector<Block> places_;
  uint32_t last_place_ = 0;
  uint32_t accesses_to_switch_ = 0;  // 0: never
  int started_ = 0, left_ = 0;       // blocks
  uint64_t progress_ = 0, progress_when_idle_ = 0;
  int idle_rounds_ = 0;
  uint64_t vain_rounds_ = 0;
  Context host_;
  Fiber* current_ = nullptr;
  std::string fault_;
  uint64_t switches_ = 0;
};

}  // namespace emulation
