#include "fibers.h"

#include <mutex>

#include "scheduler.h"

namespace emulation {
namespace {

Scheduler* scheduler = nullptr;

void fiber_entry() {
  arrived_first_time(scheduler->host());
  scheduler->launch().body();
  scheduler->finish_current();
}

}  // namespace

Here here;

void run_launch(const Launch& launch, const Schedule& schedule) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  Scheduler mine(launch, schedule, fiber_entry);
  scheduler = &mine;
  mine.run();
}

void barrier(Site site) { scheduler->barrier(site); }
void barrier_of_first(int count, Site site) { scheduler->barrier_of_first(count, site); }
void exchange(void* value, size_t size, int mask, Site site) {
  scheduler->exchange(value, size, mask, site);
}
void pause() { scheduler->pause(); }
uint64_t vain_rounds() { return scheduler->vain_rounds(); }
void before_atomic(bool writes) { scheduler->before_atomic(writes); }
void before_access() { scheduler->before_access(); }
void fail(const std::string& what) { scheduler->fail(what); }

}  // namespace emulation
