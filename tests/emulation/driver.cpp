// Explores schedules of the step: every one must come to the bits of the first, which must be right.
//
//   driver [--schedules N] [--seed S] [--case NAME] [--list]
//
// N launches are spread over the cases, 1 to 8 blocks, 1 to all of them resident. Exit status 1 at the first
// thing that is wrong.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fibers.h"
#include "wide_index.h"
#include "world.h"

namespace {

struct Arguments {
  int schedules = 200;
  uint64_t seed = 1;
  std::string only;
};

bool wrong(const std::string& name, const std::string& what) {
  if (what.empty()) return false;
  std::printf("%-20s WRONG: %s\n", name.c_str(), what.c_str());
  return true;
}

// False where something is wrong.
bool explore(const emulation::Case& c, int runs, uint64_t seed) {
  const auto start = std::chrono::steady_clock::now();
  emulation::World world(c);
  try {
    if (wrong(c.name, world.run_first())) return false;
    emulation::Random random(seed);
    for (int run = 0; run < runs; ++run) {
      const int blocks = 1 + static_cast<int>(random.below(8));
      const int resident = 1 + static_cast<int>(random.below(static_cast<uint32_t>(blocks)));
      const uint64_t first = uint64_t{random.next()} << 8;
      world.run(blocks, resident, first);
      const std::string what = world.compare();
      if (wrong(c.name, what.empty() ? "" : what + " with " + std::to_string(blocks) + " blocks, " +
                                                std::to_string(resident) + " resident, seed " +
                                                std::to_string(first))) {
        return false;
      }
    }
  } catch (const emulation::Fault& fault) {
    return !wrong(c.name, fault.what());
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%-20s %4d schedules  outcomes none %d, channel %d, layer %d, changed %d  %.2f s\n",
              c.name.c_str(), (runs + 1) * c.steps, world.outcomes[0], world.outcomes[1],
              world.outcomes[2], world.changes, seconds);
  return true;
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const bool has_value = i + 1 < argc;
    if (has_value && std::strcmp(argv[i], "--schedules") == 0) {
      arguments.schedules = std::atoi(argv[++i]);
    } else if (has_value && std::strcmp(argv[i], "--seed") == 0) {
      arguments.seed = std::strtoull(argv[++i], nullptr, 10);
    } else if (has_value && std::strcmp(argv[i], "--case") == 0) {
      arguments.only = argv[++i];
    } else {
      for (const emulation::Case& c : emulation::cases()) std::printf("%s\n", c.name.c_str());
      std::exit(std::strcmp(argv[i], "--list") != 0);
    }
  }
  return arguments;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  if (arguments.only.empty() && wrong("wide_index", emulation::check_wide_index())) return 1;
  int steps_of_all = 0;
  for (const emulation::Case& c : emulation::cases()) steps_of_all += c.steps;
  uint64_t seed = arguments.seed;
  for (const emulation::Case& c : emulation::cases()) {
    ++seed;
    if (!arguments.only.empty() && arguments.only != c.name) continue;
    const int share = arguments.only.empty() ? steps_of_all : c.steps;
    if (!explore(c, (arguments.schedules + share - 1) / share, seed)) return 1;
    std::fflush(stdout);
  }
  return 0;
}
