// Explores schedules of the step: every one must come to the bits of the first, which must be
// right.
//
//   driver [--schedules N] [--seed S] [--case NAME] [--list]
//
// N launches are spread over the cases, of 1 to 8 blocks, 1 to all of them resident. Exit status 1
// at the first thing that is wrong.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fibers.h"
#include "schedule.h"
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

bool explore_wide_index() {
  try {
    return !wrong("wide_tables", emulation::check_wide_tables()) &&
           !wrong("wide_index", emulation::check_wide_index());
  } catch (const emulation::Fault& fault) {
    return !wrong("wide_index", fault.what());
  }
}

// A case under exploration.
struct Explored {
  const emulation::Case& c;
  emulation::World world;
  emulation::Random random;
  int launches = 0, others = 0;
  double seconds = 0;

  Explored(const emulation::Case& of, uint64_t seed) : c(of), world(of), random(seed) {}

  // The first run, or one more; false where something is wrong.
  bool run(bool first) {
    const auto start = std::chrono::steady_clock::now();
    std::string what;
    try {
      what = first ? world.run_first() : run_another();
    } catch (const emulation::Fault& fault) {
      what = fault.what();
    }
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    seconds += passed.count();
    launches += c.steps;
    return !wrong(c.name, what);
  }

  std::string run_another() {
    const int blocks = 1 + static_cast<int>(random.below(8));
    const int resident = 1 + static_cast<int>(random.below(static_cast<uint32_t>(blocks)));
    const uint64_t seed = uint64_t{random.next()} << 8;
    // Every other run measures: statistics change no other bit.
    const bool measured = world.can_measure() && others++ % 2 == 1;
    world.run(blocks, resident, seed, measured);
    const std::string what = world.compare();
    if (what.empty()) return "";
    return what + (measured ? " measured, with " : " with ") + std::to_string(blocks) +
           " blocks, " + std::to_string(resident) + " resident, seed " + std::to_string(seed);
  }
};

// First every case once, then all in turn, so that what is plainly wrong shows soon.
bool explore(std::vector<std::unique_ptr<Explored>>& all, int schedules) {
  int launches_of_round = 0;
  for (const auto& explored : all) {
    launches_of_round += explored->c.weight * explored->c.steps;
    if (!explored->run(true)) return false;
  }
  for (int done = 0; done < schedules; done += launches_of_round) {
    for (const auto& explored : all) {
      for (int i = 0; i < explored->c.weight; ++i) {
        if (!explored->run(false)) return false;
      }
    }
  }
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
  if (arguments.only.empty() && !explore_wide_index()) return 1;
  std::vector<std::unique_ptr<Explored>> all;
  uint64_t seed = arguments.seed;
  for (const emulation::Case& c : emulation::cases()) {
    ++seed;
    if (!arguments.only.empty() && arguments.only != c.name) continue;
    all.push_back(std::make_unique<Explored>(c, seed));
  }
  if (!explore(all, arguments.schedules)) return 1;
  int launches = 0;
  for (const auto& explored : all) {
    const int* outcomes = explored->world.outcomes;
    const auto digest = static_cast<unsigned long long>(explored->world.digest());
    const auto of_stats = static_cast<unsigned long long>(explored->world.digest_of_stats());
    launches += explored->launches;
    std::printf(
        "%-20s %5d schedules %6.2f s  outcomes: none %d, channel %d, layer %d, changed %d  bits "
        "%016llx, statistics %016llx%s\n",
        explored->c.name.c_str(), explored->launches, explored->seconds, outcomes[0], outcomes[1],
        outcomes[2], explored->world.changes, digest, of_stats,
        explored->world.can_measure() ? "" : " (none)");
  }
  std::printf("%d schedules, equal bits\n", launches);
  return 0;
}
