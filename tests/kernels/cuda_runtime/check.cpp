// Errors of the CUDA runtime in csrc/cuda/runtime.cu: what is reported, and what is left behind.
//
// Prints what is wrong, a line each; nothing where all is right.
#include <cstdio>
#include <stdexcept>

#include "cuda_runtime.h"
// What it includes by that name is the file above.
#include "../../../csrc/cuda/runtime.cu"

namespace {

using fake::runtime;

void expect(bool right, const std::string& what) {
  if (!right) std::printf("%s\n", what.c_str());
}

// What `body` throws, or "".
template <class Body>
std::string error_of(const Body& body) {
  try {
    body();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

void launch() {
  static adamp::KernelArgs args = {};
  for (const auto method : {adamp::Method::kAdamP, adamp::Method::kSGDP}) {
    adamp::launch_step({method, adamp::TypeSet::kFloat32, false}, 1, args, nullptr);
  }
}

void check_launch() {
  runtime = {};
  runtime.last = cudaErrorOld;
  const std::string error = error_of(launch);
  expect(error.empty(), "a launch reports somebody else's old error: " + error);
  expect(runtime.launches == 2, "a launch is missing");
  expect(runtime.last == cudaErrorOld, "a launch takes away somebody else's error");

  runtime = {};
  runtime.fails_at = 0;
  expect(error_of(launch).find("launch of the step kernel: out of memory") != std::string::npos,
         "a launch that fails reports nothing");
  expect(runtime.last == cudaSuccess, "a launch that failed leaves its error to others");
}

void use(int copies) {
  adamp::StagingRing* const ring = adamp::make_staging_ring(64);
  struct Free {
    adamp::StagingRing* ring;
    ~Free() { adamp::free_staging_ring(ring); }
  } free{ring};
  char device[64];
  for (int i = 0; i < copies; ++i) {
    adamp::next_staging_buffer(ring, false);
    adamp::upload_staged(ring, device, sizeof device, nullptr);
  }
}

void expect_nothing_left(const std::string& when) {
  expect(runtime.wrong.empty(), when + ": " + runtime.wrong);
  expect(runtime.host.empty(), when + ": host memory leaks");
  expect(runtime.events.empty(), when + ": events leak");
}

void check_ring() {
  for (int copies = 0; copies < 10; ++copies) {
    runtime = {};
    const std::string error = error_of([copies] { use(copies); });
    expect(error.empty(), "the ring fails: " + error);
    expect_nothing_left("after " + std::to_string(copies) + " copies");
  }
  const int calls = runtime.calls;
  for (int call = 0; call < calls; ++call) {
    runtime = {};
    runtime.fails_at = call;
    error_of([] { use(9); });
    expect_nothing_left("where call " + std::to_string(call) + " fails");
  }
  // As when the process ends: nothing may throw any more.
  runtime = {};
  adamp::StagingRing* const ring = adamp::make_staging_ring(64);
  adamp::next_staging_buffer(ring, false);
  runtime.always_fails = true;
  adamp::free_staging_ring(ring);
  expect_nothing_left("where all fails");
}

// A capture between two eager steps: its buffer is nobody else's.
void capture() {
  adamp::StagingRing* const ring = adamp::make_staging_ring(64);
  struct Free {
    adamp::StagingRing* ring;
    ~Free() {
      runtime.capturing = false;
      adamp::free_staging_ring(ring);
    }
  } free{ring};
  char device[64];
  std::set<void*> captured;
  for (int i = 0; i < 12; ++i) {
    runtime.capturing = i % 4 == 1;
    expect(adamp::is_capturing(nullptr) == runtime.capturing, "a capture is not noticed");
    void* const buffer = adamp::next_staging_buffer(ring, runtime.capturing);
    expect(captured.count(buffer) == 0, "a captured buffer is handed out again");
    if (runtime.capturing) captured.insert(buffer);
    adamp::upload_staged(ring, device, sizeof device, nullptr);
    expect(runtime.copied_from == buffer, "another buffer is copied");
    expect(runtime.mode == cudaStreamCaptureModeGlobal, "the mode of capture is left changed");
  }
}

void check_capture() {
  runtime = {};
  const std::string error = error_of(capture);
  expect(error.empty(), "a capture fails: " + error);
  expect_nothing_left("after a capture");
  const int calls = runtime.calls;
  for (int call = 0; call < calls; ++call) {
    runtime = {};
    runtime.fails_at = call;
    error_of(capture);
    expect_nothing_left("where call " + std::to_string(call) + " of a capture fails");
  }
}

}  // namespace

int main() {
  check_launch();
  check_ring();
  check_capture();
}
