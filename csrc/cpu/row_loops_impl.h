// The body of row_loops_*.cpp. ADAMP_ROW_LOOPS names the function that hands out the loops.
//
// Everything but that function is in an unnamed namespace: each instruction set has its own copy.

#include "row_loops.h"
#include "vec.h"

namespace adamp {
namespace {

ADAMP_FN const Scalars<float>& of_type(const ScalarPair& pair, float) { return pair.in_float; }
ADAMP_FN const Scalars<double>& of_type(const ScalarPair& pair, double) { return pair.in_double; }

template <Method kMethod, class Storage, bool kNesterov>
struct Loops {
  using S = typename Arithmetic<Storage>::Scalar;
  using Lanes = typename Arithmetic<Storage>::Lanes;
  static constexpr int kLanes = Arithmetic<Storage>::kLanes;
  static constexpr bool kAdam = kMethod == Method::kAdamP;
  static constexpr bool kKeeps = kAdam && sizeof(S) == sizeof(float);
  // Elements prefetched ahead: one page, since the processor's own prefetcher stops where a page
  // ends. Measured on one core of an EPYC: SGDP 0.93 of the time without, AdamP about the same.
  static constexpr int64_t kAhead = 4096 / sizeof(Storage);

  struct Pointers {
    Storage* p;
    const Storage* g;
    Storage* m;
    Storage* v;
  };
  struct LaneSums {
    Lanes pp, gg, pg, pu;
  };

  static ADAMP_FN Pointers pointers(const Span& span) {
    return {static_cast<Storage*>(span.param), static_cast<const Storage*>(span.grad),
            static_cast<Storage*>(span.moment1), static_cast<Storage*>(span.moment2)};
  }

  // Whole vectors, or (kTail) the last `count` elements of a run.
  template <bool kTail>
  static ADAMP_FN Lanes get(const Storage* from, int64_t count) {
    if constexpr (kTail) return load_tail(from, count);
    return load(from);
  }
  template <bool kTail>
  static ADAMP_FN void put(Storage* to, Lanes x, int64_t count) {
    if constexpr (kTail) {
      store_tail(to, x, count);
    } else {
      store(to, x);
    }
  }

  // The update of stored moments: what a later visit computes again to the same bits.
  static ADAMP_FN Lanes perturb(Lanes m, Lanes v, Lanes g, const Scalars<S>& h) {
    Scalars<S> fixed = h;
    fixed.nesterov = kNesterov;
    if constexpr (kAdam) return adam_perturb(m, root(v), g, fixed);
    return sgd_perturb(m, g, fixed);
  }

  // A moment as a later visit would read it back.
  template <bool kTail>
  static ADAMP_FN Lanes stored(Storage* at, Lanes x, int64_t count) {
    put<kTail>(at, x, count);
    if constexpr (sizeof(Storage) < sizeof(S)) return get<kTail>(at, count);
    return x;
  }

  template <bool kSums, bool kUpdate, bool kKeep, bool kTail>
  static ADAMP_FN void accumulate_lanes(const Pointers& at, int64_t i, int64_t count,
                                        const Scalars<S>& h, S shrink, LaneSums& sums,
                                        [[maybe_unused]] float* kept) {
    if constexpr (!kTail) {
      __builtin_prefetch(at.p + i + kAhead, 1);
      __builtin_prefetch(at.g + i + kAhead, 0);
      __builtin_prefetch(at.m + i + kAhead, 1);
      if constexpr (kAdam) __builtin_prefetch(at.v + i + kAhead, 1);
    }
    const Lanes p = get<kTail>(at.p + i, count);
    const Lanes g = get<kTail>(at.g + i, count) * h.sign;
    const Lanes m = stored<kTail>(
        at.m + i, moving_average(get<kTail>(at.m + i, count), g, h.decay1, h.gain1), count);
    Lanes v = p;
    if constexpr (kAdam) {
      v = stored<kTail>(
          at.v + i, moving_average(get<kTail>(at.v + i, count), g * g, h.decay2, h.gain2), count);
    }
    Lanes u = perturb(m, v, g, h);
    if constexpr (kTail) u = keep_first(u, count);  // eps = 0 makes 0/0 of the lanes beyond the end
    if constexpr (kSums) {
      sums.pp += p * p;
      sums.gg += g * g;
      sums.pg += p * g;
      sums.pu += p * u;
    }
    if constexpr (kKeep) {
      if constexpr (kTail) {
        store_tail(kept + i, u, count);
      } else {
        store(kept + i, u);
      }
    }
    if constexpr (kUpdate) put<kTail>(at.p + i, apply_update(p, u, shrink, h.step_size), count);
  }

  template <bool kSums, bool kUpdate, bool kKeep>
  static void accumulate_rows(const Span& span, int64_t rows, const Scalars<S>& h, S shrink,
                              RowSums<double>* sums, float* kept) {
    const Pointers at = pointers(span);
    int64_t i = 0;
    for (int64_t row = 0; row < rows; ++row) {
      LaneSums lanes = {};
      const int64_t end = i + span.count;
      for (; i + kLanes <= end; i += kLanes) {
        accumulate_lanes<kSums, kUpdate, kKeep, false>(at, i, kLanes, h, shrink, lanes, kept);
      }
      if (i < end)
        accumulate_lanes<kSums, kUpdate, kKeep, true>(at, i, end - i, h, shrink, lanes, kept);
      i = end;
      if constexpr (kSums) {
        sums[row] = {lane_sum(lanes.pp), lane_sum(lanes.gg), lane_sum(lanes.pg),
                     lane_sum(lanes.pu)};
      }
    }
  }

  static void accumulate(const Span& span, int64_t rows, const ScalarPair& pair, Accumulate what,
                         RowUpdate<double> now, RowSums<double>* sums, float* kept) {
    const Scalars<S> h = of_type(pair, S());
    const S shrink = static_cast<S>(now.shrink);
    switch (what) {
      case Accumulate::kSums:
        if constexpr (kKeeps) {
          if (kept != nullptr) {
            return accumulate_rows<true, false, true>(span, rows, h, shrink, sums, kept);
          }
        }
        return accumulate_rows<true, false, false>(span, rows, h, shrink, sums, nullptr);
      case Accumulate::kUpdate:
        return accumulate_rows<false, true, false>(span, rows, h, shrink, sums, nullptr);
      default:
        return accumulate_rows<true, true, false>(span, rows, h, shrink, sums, nullptr);
    }
  }

  static void apply_kept(const Span& span, const ScalarPair& pair, RowUpdate<double> next,
                         const float* kept) {
    const Scalars<S> h = of_type(pair, S());
    const S shrink = static_cast<S>(next.shrink);
    Storage* const p = static_cast<Storage*>(span.param);
    int64_t i = 0;
    for (; i + kLanes <= span.count; i += kLanes) {
      store(p + i, apply_update(load(p + i), load(kept + i), shrink, h.step_size));
    }
    if (i < span.count) {
      const int64_t count = span.count - i;
      const Lanes u = load_tail(kept + i, count);
      store_tail(p + i, apply_update(load_tail(p + i, count), u, shrink, h.step_size), count);
    }
  }

  template <bool kUndo, bool kBuffer, bool kTail>
  static ADAMP_FN void apply_lanes(const Pointers& at, int64_t i, int64_t count,
                                   const Scalars<S>& h, RowUpdate<S> next, RowUpdate<S> previous) {
    Lanes p = get<kTail>(at.p + i, count);
    const Lanes m = get<kTail>(at.m + i, count);
    Lanes v = p, g = p;
    if constexpr (kAdam) v = get<kTail>(at.v + i, count);
    if constexpr (kNesterov) g = get<kTail>(at.g + i, count) * h.sign;
    Lanes u = perturb(m, v, g, h);
    if constexpr (kUndo) {
      p = recover_weight(p, u, previous.shrink, h.step_size);
      // A projected buffer is what was stored; `previous` then names the decay alone (see apply).
      if constexpr (kBuffer) u += previous.radial * p;
    }
    if constexpr (kBuffer) put<kTail>(at.m + i, u - next.radial * p, count);
    put<kTail>(at.p + i, apply_update(p, u, next.shrink, h.step_size), count);
  }

  template <bool kUndo, bool kBuffer>
  static void apply_run(const Span& span, const Scalars<S>& h, RowUpdate<S> next,
                        RowUpdate<S> previous) {
    const Pointers at = pointers(span);
    int64_t i = 0;
    for (; i + kLanes <= span.count; i += kLanes) {
      apply_lanes<kUndo, kBuffer, false>(at, i, kLanes, h, next, previous);
    }
    if (i < span.count) {
      apply_lanes<kUndo, kBuffer, true>(at, i, span.count - i, h, next, previous);
    }
  }

  static void apply(const Span& span, const ScalarPair& pair, RowUpdate<double> next,
                    const RowUpdate<double>* previous) {
    const Scalars<S> h = of_type(pair, S());
    const RowUpdate<S> to = {static_cast<S>(next.shrink), static_cast<S>(next.radial)};
    RowUpdate<S> from = {};
    if (previous != nullptr) {
      from = {static_cast<S>(previous->shrink), static_cast<S>(previous->radial)};
    }
    if constexpr (!kAdam && !kNesterov) {
      if (h.project_buffer) {
        // p_new = p - (decay*p + lr*b) with b the buffer as stored, already projected if it was.
        if (previous != nullptr && previous->radial != 0) from.shrink = h.decay_projected;
        return previous == nullptr ? apply_run<false, true>(span, h, to, from)
                                   : apply_run<true, true>(span, h, to, from);
      }
    }
    return previous == nullptr ? apply_run<false, false>(span, h, to, from)
                               : apply_run<true, false>(span, h, to, from);
  }
};

template <Method kMethod, class Storage>
struct ByNesterov {
  static void accumulate(const Span& span, int64_t rows, const ScalarPair& pair, Accumulate what,
                         RowUpdate<double> now, RowSums<double>* sums, float* kept) {
    return pair.in_float.nesterov
               ? Loops<kMethod, Storage, true>::accumulate(span, rows, pair, what, now, sums, kept)
               : Loops<kMethod, Storage, false>::accumulate(span, rows, pair, what, now, sums,
                                                            kept);
  }
  static void apply(const Span& span, const ScalarPair& pair, RowUpdate<double> next,
                    const RowUpdate<double>* previous) {
    return pair.in_float.nesterov
               ? Loops<kMethod, Storage, true>::apply(span, pair, next, previous)
               : Loops<kMethod, Storage, false>::apply(span, pair, next, previous);
  }
};

template <Method kMethod, class Storage>
RowLoops loops_of_type() {
  using Either = ByNesterov<kMethod, Storage>;
  using Plain = Loops<kMethod, Storage, false>;
  RowLoops loops = {Either::accumulate, nullptr, Either::apply};
  if constexpr (Plain::kKeeps) loops.apply_kept = Plain::apply_kept;
  return loops;
}

template <Method kMethod>
RowLoops loops_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return loops_of_type<kMethod, double>();
    case DType::kBFloat16:
      return loops_of_type<kMethod, BFloat16>();
    case DType::kFloat16:
      return loops_of_type<kMethod, Float16>();
    default:
      return loops_of_type<kMethod, float>();
  }
}

}  // namespace

RowLoops ADAMP_ROW_LOOPS(Method method, DType dtype) {
  return method == Method::kAdamP ? loops_of<Method::kAdamP>(dtype)
                                  : loops_of<Method::kSGDP>(dtype);
}

}  // namespace adamp
