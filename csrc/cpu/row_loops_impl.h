// The body of row_loops_*.cpp. ADAMP_ROW_LOOPS names the function that hands out the loops.
//
// Everything but that function is in an unnamed namespace: each instruction set has its own copy.

#include <stdexcept>
#include <type_traits>

#include "../core/types.h"
#include "row_loops.h"
#include "thin_rows.h"
#include "vec.h"

namespace adamp {
namespace {

ADAMP_FN const Scalars<float>& of_type(const ScalarPair& pair, float) { return pair.in_float; }
ADAMP_FN const Scalars<double>& of_type(const ScalarPair& pair, double) { return pair.in_double; }

template <class M, class Types, bool kNesterov>
struct Loops {
  using param_t = typename Types::param_t;
  using grad_t = typename Types::grad_t;
  using state_t = typename Types::state_t;
  using S = typename Arithmetic<param_t>::Scalar;
  using Lanes = typename Arithmetic<param_t>::Lanes;
  static constexpr int kLanes = Arithmetic<param_t>::kLanes;
  static constexpr bool kMoment2 = kTwoMoments<M>;
  static constexpr bool kMayProjectBuffer = M::kUpdateIsMoment && !kNesterov;
  // Otherwise u is the moment as it is stored.
  static constexpr bool kKeeps = !kMayProjectBuffer;
  // Elements prefetched ahead into L1, across the end of a page, where the core's own prefetcher
  // stops. For long rows also into L2: there the update behind, whose rows are no longer in L1,
  // disturbs the core's prefetcher. Measured on one core of an EPYC, 12.6 M elements, time with
  // projection over time without: rows of 768 1.19 (SGDP) and 1.14 (AdamP), with the L2 prefetch
  // 1.24 and 1.18; rows of 2304 1.51 and 1.30, with it 1.41 and 1.23.
  static constexpr int64_t kNear = 256 / sizeof(param_t);
  static constexpr int64_t kFar = 2048 / sizeof(param_t);
  static constexpr int64_t kLongRow = 3072 / sizeof(param_t);
  static constexpr int kL1 = 3, kL2 = 2;  // as __builtin_prefetch names them

  struct Pointers {
    param_t* p;
    const grad_t* g;
    state_t* m;
    state_t* v;
  };
  struct LaneSums {
    Lanes pp, gg, pg, pu, uu;
  };

  static ADAMP_FN Pointers pointers(const Block& block) {
    return {static_cast<param_t*>(block.param), static_cast<const grad_t*>(block.grad),
            static_cast<state_t*>(block.moment1), static_cast<state_t*>(block.moment2)};
  }

  // Whole vectors, or (kTail) the last `count` elements of a run.
  template <bool kTail, class T>
  static ADAMP_FN Lanes get(const T* from, int64_t count) {
    if constexpr (kTail) return load_tail(from, count);
    return load(from);
  }
  template <bool kTail, class T>
  static ADAMP_FN void put(T* to, Lanes x, int64_t count) {
    if constexpr (kTail) {
      store_tail(to, x, count);
    } else {
      store(to, x);
    }
  }

  // The update of stored moments: what a later pass computes again to the same bits.
  static ADAMP_FN Lanes perturb(Lanes m, Lanes v, Lanes g, const Scalars<S>& h) {
    Scalars<S> fixed = h;
    fixed.nesterov = kNesterov;
    return M::perturb(m, v, g, fixed);
  }

  // A moment as a later pass would read it back.
  template <bool kTail>
  static ADAMP_FN Lanes stored(state_t* at, Lanes x, int64_t count) {
    put<kTail>(at, x, count);
    if constexpr (sizeof(state_t) < sizeof(S)) return get<kTail>(at, count);
    return x;
  }

  // The same where it is not stored.
  static ADAMP_FN Lanes as_stored(Lanes x) {
    if constexpr (sizeof(state_t) < sizeof(S)) {
      state_t storage[kLanes];
      store(storage, x);
      return load(storage);
    }
    return x;
  }

  template <int kCache>
  static ADAMP_FN void prefetch(const Pointers& at, int64_t i) {
    __builtin_prefetch(at.p + i, 1, kCache);
    __builtin_prefetch(at.g + i, 0, kCache);
    __builtin_prefetch(at.m + i, 1, kCache);
    if constexpr (kMoment2) __builtin_prefetch(at.v + i, 1, kCache);
  }

  struct Inputs {
    Lanes p, g, m, v;
  };
  template <bool kTail>
  static ADAMP_FN Inputs read(const Pointers& at, int64_t i, int64_t count) {
    const Lanes p = get<kTail>(at.p + i, count);
    Lanes v = p;
    if constexpr (kMoment2) v = get<kTail>(at.v + i, count);
    return {p, get<kTail>(at.g + i, count), get<kTail>(at.m + i, count), v};
  }

  template <bool kSums, bool kUu, bool kUpdate, bool kKeep, bool kTail>
  static ADAMP_FN void accumulate_lanes(const Pointers& at, int64_t i, int64_t count,
                                        const Inputs& in, const Scalars<S>& h, S shrink,
                                        LaneSums& sums, [[maybe_unused]] S* kept) {
    const Lanes p = in.p, g = in.g * h.factor;
    const Lanes m = stored<kTail>(at.m + i, M::moment1(in.m, g, h), count);
    Lanes v = p;
    if constexpr (kMoment2) {
      v = stored<kTail>(at.v + i, M::moment2(in.v, g, h), count);
    }
    Lanes u = perturb(m, v, g, h);
    if constexpr (kTail) u = keep_first(u, count);  // eps = 0 makes 0/0 of the lanes beyond the end
    if constexpr (kSums) {
      sums.pp += p * p;
      sums.gg += g * g;
      sums.pg += p * g;
      sums.pu += p * u;
    }
    if constexpr (kUu) sums.uu += u * u;
    if constexpr (kKeep) put<kTail>(kept + i, u, count);
    if constexpr (kUpdate)
      put<kTail>(at.p + i, apply_update(p, u, RowUpdate<S>{shrink, S(0)}, h), count);
  }

  // A block that is behind, as the loops see it.
  struct Later {
    param_t* p;
    state_t* m;
    const S* kept;
  };

  static ADAMP_FN Later later(const Behind& behind) {
    return {static_cast<param_t*>(behind.block.param), static_cast<state_t*>(behind.block.moment1),
            static_cast<const S*>(behind.kept)};
  }

  struct LaterInputs {
    Lanes p, u;
  };
  template <bool kTail>
  static ADAMP_FN LaterInputs read(const Later& at, int64_t i, int64_t count) {
    const Lanes p = get<kTail>(at.p + i, count);
    if constexpr (kKeeps) {
      return {p, get<kTail>(at.kept + i, count)};
    } else {
      return {p, get<kTail>(at.m + i, count)};
    }
  }

  template <bool kTail>
  static ADAMP_FN void update_lanes(const Later& at, int64_t i, int64_t count,
                                    const LaterInputs& in, const Scalars<S>& h,
                                    RowUpdate<S> update) {
    if constexpr (kMayProjectBuffer) {
      // Otherwise the buffer is u already. An infinite weight is in no row with a radial part.
      if (h.project_buffer && update.radial != 0) {
        put<kTail>(at.m + i, in.u - update.radial * in.p, count);
      }
    }
    put<kTail>(at.p + i, apply_update(in.p, in.u, update, h), count);
  }

  static ADAMP_FN RowUpdate<S> narrowed(const RowUpdate<double>& update) {
    return {static_cast<S>(update.shrink), static_cast<S>(update.radial)};
  }

  // kTurn vectors of a row, from element i of the block; kBehind: and those at the same place of
  // the block behind. All loads come before the first store: a load from where a store has just
  // been, but for whole pages, is taken to wait for it, and large arrays lie alike in their pages.
  template <bool kSums, bool kUu, bool kUpdate, bool kKeep, bool kBehind, bool kLong, int kTurn>
  static ADAMP_FN void accumulate_turn(const Pointers& at, int64_t i, const Scalars<S>& h, S shrink,
                                       LaneSums& sums, S* kept, const Later& behind,
                                       RowUpdate<S> update) {
    Inputs in[kTurn];
    LaterInputs old[kTurn];
    for (int k = 0; k < kTurn; ++k) {
      if constexpr (kBehind && kLong) prefetch<kL2>(at, i + k * kLanes + kFar);
      prefetch<kL1>(at, i + k * kLanes + kNear);
    }
    for (int k = 0; k < kTurn; ++k) {
      if constexpr (kBehind) old[k] = read<false>(behind, i + k * kLanes, kLanes);
    }
    for (int k = 0; k < kTurn; ++k) in[k] = read<false>(at, i + k * kLanes, kLanes);
    for (int k = 0; k < kTurn; ++k) {
      if constexpr (kBehind) {
        update_lanes<false>(behind, i + k * kLanes, kLanes, old[k], h, update);
      }
    }
    for (int k = 0; k < kTurn; ++k) {
      accumulate_lanes<kSums, kUu, kUpdate, kKeep, false>(at, i + k * kLanes, kLanes, in[k], h,
                                                          shrink, sums, kept);
    }
  }

  // One row, from element i of the block; kBehind: and the row at the same place of the block
  // behind; kLong: they are longer than kLongRow.
  template <bool kSums, bool kUu, bool kUpdate, bool kKeep, bool kBehind, bool kLong>
  static ADAMP_FN LaneSums accumulate_row(const Pointers& at, int64_t i, int64_t cols,
                                          const Scalars<S>& h, S shrink, S* kept,
                                          const Later& behind, RowUpdate<S> update) {
    // SGDP, two at a time where the row behind comes out of L2: 3 to 6 % less. AdamP
    // has too many values in flight: nothing, and 5 % more with vectors of 32 bytes.
    constexpr int kTurn = !kMoment2 && kBehind && kLong ? 2 : 1;
    const int64_t end = i + cols;
    LaneSums sums = {};
    for (; i + kTurn * kLanes <= end; i += kTurn * kLanes) {
      accumulate_turn<kSums, kUu, kUpdate, kKeep, kBehind, kLong, kTurn>(at, i, h, shrink, sums,
                                                                         kept, behind, update);
    }
    if (kTurn > 1 && i + kLanes <= end) {
      accumulate_turn<kSums, kUu, kUpdate, kKeep, kBehind, kLong, 1>(at, i, h, shrink, sums, kept,
                                                                     behind, update);
      i += kLanes;
    }
    if (i < end) {
      const int64_t count = end - i;
      if constexpr (kBehind) {
        update_lanes<true>(behind, i, count, read<true>(behind, i, count), h, update);
      }
      accumulate_lanes<kSums, kUu, kUpdate, kKeep, true>(at, i, count, read<true>(at, i, count), h,
                                                         shrink, sums, kept);
    }
    return sums;
  }

  static void update_row(const Later& at, int64_t i, int64_t cols, const Scalars<S>& h,
                         RowUpdate<S> update) {
    const int64_t end = i + cols;
    for (; i + kLanes <= end; i += kLanes) {
      update_lanes<false>(at, i, kLanes, read<false>(at, i, kLanes), h, update);
    }
    if (i < end) {
      update_lanes<true>(at, i, end - i, read<true>(at, i, end - i), h, update);
    }
  }

  template <bool kSums, bool kUu, bool kUpdate, bool kKeep>
  static void accumulate_rows(const Block& block, const Scalars<S>& h, S shrink,
                              RowSums<double>* sums, [[maybe_unused]] double* uu, S* kept,
                              const Behind* behind) {
    const Pointers at = pointers(block);
    const Later back = behind == nullptr ? Later() : later(*behind);
    [[maybe_unused]] Lanes all_uu = {};
    for (int64_t row = 0; row < block.rows; ++row) {
      const int64_t i = row * block.cols;
      const bool both = behind != nullptr && behind->rows[row].active;
      const RowUpdate<S> update = both ? narrowed(behind->rows[row].update) : RowUpdate<S>();
      LaneSums lanes;
      if (!both) {
        lanes = accumulate_row<kSums, kUu, kUpdate, kKeep, false, false>(
            at, i, block.cols, h, shrink, kept, back, update);
      } else if (block.cols <= kLongRow) {
        lanes = accumulate_row<kSums, kUu, kUpdate, kKeep, true, false>(at, i, block.cols, h,
                                                                        shrink, kept, back, update);
      } else {
        lanes = accumulate_row<kSums, kUu, kUpdate, kKeep, true, true>(at, i, block.cols, h, shrink,
                                                                       kept, back, update);
      }
      if constexpr (kSums) sums[row] = row_sums(lanes.pp, lanes.gg, lanes.pg, lanes.pu);
      if constexpr (kUu) all_uu += lanes.uu;
    }
    if constexpr (kUu) *uu = row_sums(all_uu, Lanes(), Lanes(), Lanes()).pp;
    if (behind != nullptr) update_rows(*behind, block.rows, h);
  }

  static void accumulate(const Block& block, const ScalarPair& pair, Accumulate what,
                         RowUpdate<double> now, RowSums<double>* sums, double* uu, void* kept,
                         const Behind* behind) {
    const Scalars<S> h = of_type(pair, S());
    const S shrink = static_cast<S>(now.shrink);
    S* const buffer = static_cast<S*>(kept);
    if (what == Accumulate::kUpdate) {
      return accumulate_rows<false, false, true, false>(block, h, shrink, sums, uu, nullptr,
                                                        nullptr);
    }
    if (uu != nullptr)
      return accumulate_sums<true>(block, h, what, shrink, sums, uu, buffer, behind);
    return accumulate_sums<false>(block, h, what, shrink, sums, uu, buffer, behind);
  }

  template <bool kUu>
  static void accumulate_sums(const Block& block, const Scalars<S>& h, Accumulate what, S shrink,
                              RowSums<double>* sums, double* uu, S* kept, const Behind* behind) {
    if (what == Accumulate::kSumsAndUpdate) {
      return accumulate_rows<true, kUu, true, false>(block, h, shrink, sums, uu, nullptr, nullptr);
    }
    if constexpr (kKeeps) {
      if (kept != nullptr) {
        return accumulate_rows<true, kUu, false, true>(block, h, shrink, sums, uu, kept, behind);
      }
    }
    accumulate_rows<true, kUu, false, false>(block, h, shrink, sums, uu, nullptr, behind);
  }

  static void update_rows(const Behind& behind, int64_t first, const Scalars<S>& h) {
    const Later at = later(behind);
    for (int64_t row = first; row < behind.block.rows; ++row) {
      if (!behind.rows[row].active) continue;
      update_row(at, row * behind.block.cols, behind.block.cols, h,
                 narrowed(behind.rows[row].update));
    }
  }

  static void apply_kept(const Behind& behind, const ScalarPair& pair) {
    update_rows(behind, 0, of_type(pair, S()));
  }

  // The weight before its update, and u again. kBuffer: where the buffer may have been projected.
  template <bool kRollBack, bool kBuffer, bool kTail>
  static ADAMP_FN LaterInputs recompute(const Pointers& at, int64_t i, int64_t count,
                                        const Scalars<S>& h, RowUpdate<S> previous) {
    if constexpr (!kTail) {
      __builtin_prefetch(at.p + i + kNear, 1);
      __builtin_prefetch(at.m + i + kNear, 0);
      if constexpr (kMoment2) __builtin_prefetch(at.v + i + kNear, 0);
    }
    Lanes p = get<kTail>(at.p + i, count);
    const Lanes m = get<kTail>(at.m + i, count);
    Lanes v = p, g = p;
    if constexpr (kMoment2) v = get<kTail>(at.v + i, count);
    if constexpr (kNesterov) g = get<kTail>(at.g + i, count) * h.factor;
    Lanes u = perturb(m, v, g, h);
    if constexpr (kRollBack) {
      p = recover_weight(p, u, previous.shrink, h.step_size);
      if constexpr (kBuffer) u += radial_part(p, previous.radial);
    }
    return {p, u};
  }

  template <bool kRollBack, bool kBuffer, bool kTail>
  static ADAMP_FN void apply_lanes(const Pointers& at, int64_t i, int64_t count,
                                   const Scalars<S>& h, RowUpdate<S> next, RowUpdate<S> previous) {
    const LaterInputs in = recompute<kRollBack, kBuffer, kTail>(at, i, count, h, previous);
    if constexpr (kBuffer) put<kTail>(at.m + i, in.u - radial_part(in.p, next.radial), count);
    put<kTail>(at.p + i, apply_update(in.p, in.u, next, h), count);
  }

  template <bool kRollBack, bool kBuffer>
  static void apply_run(const Block& block, const Scalars<S>& h, RowUpdate<S> next,
                        RowUpdate<S> previous) {
    const Pointers at = pointers(block);
    const int64_t numel = block.numel();
    int64_t i = 0;
    for (; i + kLanes <= numel; i += kLanes) {
      apply_lanes<kRollBack, kBuffer, false>(at, i, kLanes, h, next, previous);
    }
    if (i < numel) apply_lanes<kRollBack, kBuffer, true>(at, i, numel - i, h, next, previous);
  }

  static void apply(const Block& block, const ScalarPair& pair, RowUpdate<double> next,
                    const RowUpdate<double>* previous) {
    const Scalars<S> h = of_type(pair, S());
    const RowUpdate<S> to = narrowed(next);
    RowUpdate<S> from = previous == nullptr ? RowUpdate<S>() : narrowed(*previous);
    if constexpr (kMayProjectBuffer) {
      if (h.project_buffer) {
        from = roll_back_of(from, true, h);
        return previous == nullptr ? apply_run<false, true>(block, h, to, from)
                                   : apply_run<true, true>(block, h, to, from);
      }
    }
    return previous == nullptr ? apply_run<false, false>(block, h, to, from)
                               : apply_run<true, false>(block, h, to, from);
  }

  // Calls body(tail, i, count) for each vector of a run, and for the rest with tail true.
  template <class Body>
  static ADAMP_FN void by_lanes(int64_t numel, Body body) {
    int64_t i = 0;
    for (; i + kLanes <= numel; i += kLanes) body(std::false_type(), i, kLanes);
    if (i < numel) body(std::true_type(), i, numel - i);
  }

  // u is computed as accumulate() will.
  static StatSums<double> thin_row_stats(const Block& block, const ScalarPair& pair) {
    const Scalars<S> h = of_type(pair, S());
    const Pointers at = pointers(block);
    alignas(64) S p[kChunkElements], g[kChunkElements], u[kChunkElements];
    StatSums<double> total = {};
    for (int64_t row = 0, rows; row < block.rows; row += rows) {
      rows = chunk_rows(block.cols, block.rows - row);
      by_lanes(rows * block.cols, [&](auto tail, int64_t i, int64_t count) {
        constexpr bool kTail = decltype(tail)::value;
        const Inputs in = read<kTail>(at, row * block.cols + i, count);
        const Lanes grad = in.g * h.factor;
        const Lanes m = as_stored(M::moment1(in.m, grad, h));
        Lanes v = in.p;
        if constexpr (kMoment2) v = as_stored(M::moment2(in.v, grad, h));
        Lanes perturbed = perturb(m, v, grad, h);
        if constexpr (kTail) perturbed = keep_first(perturbed, count);
        store(p + i, in.p);
        store(g + i, grad);
        store(u + i, perturbed);
      });
      add_to(total, stats_of_rows(p, g, u, rows, block.cols, pair.in_double));
    }
    return total;
  }

  static void project_thin_rows(const Block& block, const ScalarPair& pair, const void* kept,
                                const RowUpdate<double>* previous) {
    const Scalars<S> h = of_type(pair, S());
    const RowUpdate<S> from = previous == nullptr ? RowUpdate<S>() : narrowed(*previous);
    const Pointers at = pointers(block);
    const Later later = {at.p, at.m, static_cast<const S*>(kept)};
    const bool projects_buffer = kMayProjectBuffer && h.project_buffer;
    alignas(64) S p[kChunkElements], u[kChunkElements];
    for (int64_t row = 0, rows; row < block.rows; row += rows) {
      rows = chunk_rows(block.cols, block.rows - row);
      const int64_t first = row * block.cols, numel = rows * block.cols;
      by_lanes(numel, [&](auto tail, int64_t i, int64_t count) {
        constexpr bool kTail = decltype(tail)::value;
        const LaterInputs in = kept != nullptr ? read<kTail>(later, first + i, count)
                               : previous == nullptr
                                   ? recompute<false, false, kTail>(at, first + i, count, h, from)
                                   : recompute<true, false, kTail>(at, first + i, count, h, from);
        store(p + i, in.p);
        store(u + i, in.u);
      });
      if (projects_buffer) {
        project_rows<true>(p, u, rows, block.cols, h, pair.in_double);
      } else {
        project_rows<false>(p, u, rows, block.cols, h, pair.in_double);
      }
      by_lanes(numel, [&](auto tail, int64_t i, int64_t count) {
        constexpr bool kTail = decltype(tail)::value;
        put<kTail>(at.p + first + i, load(p + i), count);
        if (projects_buffer) put<kTail>(at.m + first + i, load(u + i), count);
      });
    }
  }
};

// A run in the type of the arithmetic, multiplied by `factor`: itself, or a copy in `buffer`.
template <class Storage, class S>
ADAMP_FN const S* in_arithmetic(const Storage* from, int64_t numel, S factor, S* buffer) {
  if constexpr (sizeof(Storage) == sizeof(S)) {
    if (factor == 1) return from;
  }
  constexpr int64_t kLanes = Arithmetic<Storage>::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= numel; i += kLanes) store(buffer + i, load(from + i) * factor);
  if (i < numel) store(buffer + i, load_tail(from + i, numel - i) * factor);
  return buffer;
}

template <class Types>
bool thin_rows_pass(const Block& block, const ScalarPair& pair, double bound) {
  using param_t = typename Types::param_t;
  using grad_t = typename Types::grad_t;
  using S = typename Arithmetic<param_t>::Scalar;
  const double eps = pair.in_double.eps;
  // The sign of a gradient is of no account to the test.
  const S signed_factor = of_type(pair, S()).factor;
  const S factor = signed_factor < 0 ? -signed_factor : signed_factor;
  alignas(64) S wide_p[kChunkElements], wide_g[kChunkElements];
  for (int64_t row = 0, rows; row < block.rows; row += rows) {
    rows = chunk_rows(block.cols, block.rows - row);
    const int64_t first = row * block.cols, numel = rows * block.cols;
    const S* const p =
        in_arithmetic(static_cast<const param_t*>(block.param) + first, numel, S(1), wide_p);
    const S* const g =
        in_arithmetic(static_cast<const grad_t*>(block.grad) + first, numel, factor, wide_g);
    // The first by itself: mostly it fails.
    if (row == 0 && !row_passes(p, g, block.cols, bound, eps)) return false;
    if (!rows_pass(p, g, rows, block.cols, bound, eps)) return false;
  }
  return true;
}

// In double: no square of a float32 overflows, and the sum is as good as exact.
template <class Types>
double squares(const Block& block, double factor) {
  using grad_t = typename Types::grad_t;
  using Lanes = typename Arithmetic<grad_t>::Lanes;
  constexpr int64_t kLanes = Arithmetic<grad_t>::kLanes;
  const grad_t* const g = static_cast<const grad_t*>(block.grad);
  DoubleLanes sums[2] = {};
  const auto add = [&](Lanes x) {
    if constexpr (kLanes == kDoubleLanes) {
      const DoubleLanes scaled = x * factor;
      sums[0] += scaled * scaled;
    } else {
      const DoubleLanes low = low_half(x) * factor, high = high_half(x) * factor;
      sums[0] += low * low;
      sums[1] += high * high;
    }
  };
  int64_t i = 0;
  for (; i + kLanes <= block.numel(); i += kLanes) add(load(g + i));
  if (i < block.numel()) add(load_tail(g + i, block.numel() - i));
  double sum = 0;
  for (int lane = 0; lane < kDoubleLanes; ++lane) sum += sums[0][lane] + sums[1][lane];
  return sum;
}

template <class M, class Types>
struct ByNesterov {
  using With = Loops<M, Types, true>;
  using Without = Loops<M, Types, false>;

  static void accumulate(const Block& block, const ScalarPair& pair, Accumulate what,
                         RowUpdate<double> now, RowSums<double>* sums, double* uu, void* kept,
                         const Behind* behind) {
    const auto loop = pair.in_float.nesterov ? With::accumulate : Without::accumulate;
    loop(block, pair, what, now, sums, uu, kept, behind);
  }
  static void apply_kept(const Behind& behind, const ScalarPair& pair) {
    const auto loop = pair.in_float.nesterov ? With::apply_kept : Without::apply_kept;
    loop(behind, pair);
  }
  static void apply(const Block& block, const ScalarPair& pair, RowUpdate<double> next,
                    const RowUpdate<double>* previous) {
    const auto loop = pair.in_float.nesterov ? With::apply : Without::apply;
    loop(block, pair, next, previous);
  }
  static StatSums<double> thin_row_stats(const Block& block, const ScalarPair& pair) {
    const auto loop = pair.in_float.nesterov ? With::thin_row_stats : Without::thin_row_stats;
    return loop(block, pair);
  }
  static void project_thin_rows(const Block& block, const ScalarPair& pair, const void* kept,
                                const RowUpdate<double>* previous) {
    const auto loop = pair.in_float.nesterov ? With::project_thin_rows : Without::project_thin_rows;
    loop(block, pair, kept, previous);
  }
};

template <class M, class Types>
const RowLoops& loops_of_types() {
  using Either = ByNesterov<M, Types>;
  static constexpr RowLoops loops = {
      Either::accumulate,     Either::apply_kept,        Either::apply, thin_rows_pass<Types>,
      Either::thin_row_stats, Either::project_thin_rows, squares<Types>};
  return loops;
}

template <class M>
const RowLoops& loops_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return loops_of_types<M, Types<float>>();
    case DType::kFloat64:
      return loops_of_types<M, Types<double>>();
    case DType::kBFloat16:
      return loops_of_types<M, Types<BFloat16>>();
    case DType::kFloat16:
      return loops_of_types<M, Types<Float16>>();
  }
  throw std::invalid_argument("adamp_fused: an unknown dtype");
}

}  // namespace

const RowLoops& ADAMP_ROW_LOOPS(Method method, DType dtype) {
  return for_method(method,
                    [dtype](auto m) -> const RowLoops& { return loops_of<decltype(m)>(dtype); });
}

}  // namespace adamp
