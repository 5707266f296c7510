// The two loops over the elements of a span: sweep the moments, apply the updates.
//
// The mathematics is in ../formulas.h; which thread loads which element, in span.cuh.
#pragma once

#include "shared_memory.cuh"

namespace adamp {

template <Method kMethod, class Storage>
struct SpanWork {
  using Memory = SharedMemory<Storage>;
  using S = typename Memory::S;
  static constexpr bool kAdam = kMethod == Method::kAdamP;

  static ADAMP_DEVICE S perturb(S m, S v, S g, const Scalars<S>& h) {
    return kAdam ? adam_perturb(m, square_root(v), g, h) : sgd_perturb(m, g, h);
  }

  // Moves the moments of a span; kUpdate: and the weights, by the plain update; kKeep: p, g and u
  // stay in the tile; kRevisit: the tensor will be read again once it is decided.
  template <bool kUpdate, bool kKeep, bool kRevisit>
  static ADAMP_DEVICE void sweep(const Span<Storage>& span, Memory& memory) {
    const Scalars<S> h = memory.scalars;
    span.for_each([&](auto count, int i) {
      constexpr int kCount = decltype(count)::value;
      Pack<Storage, kCount> p = load<kCount, !kRevisit>(span.p + i);
      const Pack<Storage, kCount> g = load<kCount, true>(span.g + i);
      Pack<Storage, kCount> m = load<kCount, !kRevisit>(span.m + i);
      Pack<Storage, kCount> v = p;
      if constexpr (kAdam) v = load<kCount, !kRevisit>(span.v + i);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const S weight = p.get(j), grad = g.get(j) * h.sign;
        // u follows from the moments as stored: what a later visit reads back.
        m.set(j, moving_average(m.get(j), grad, h.decay1, h.gain1));
        if constexpr (kAdam) v.set(j, moving_average(v.get(j), grad * grad, h.decay2, h.gain2));
        const S u = perturb(m.get(j), v.get(j), grad, h);
        if constexpr (kKeep) {
          const int at = span.tile_index(i + j);
          memory.p[at] = weight;
          memory.g[at] = grad;
          memory.u[at] = u;
        }
        if constexpr (kUpdate) {
          p.set(j, apply_update(weight, u, plain_update(h).shrink, h.step_size));
        }
      }
      store<kCount, !kRevisit>(span.m + i, m);
      if constexpr (kAdam) store<kCount, !kRevisit>(span.v + i, v);
      if constexpr (kUpdate) store<kCount, !kRevisit>(span.p + i, p);
    });
  }

  static ADAMP_DEVICE bool projects_buffer(const Scalars<S>& h) {
    return !kAdam && h.project_buffer && !h.nesterov;
  }

  // Where apply() finds p and u: in the tile; or in memory, u as it follows from the moments, and
  // with nesterov from the gradient, too.
  enum class Source { kTile, kMoments, kMomentsAndGradient };

  // Applies the row updates of a span.
  template <Source kSource>
  static ADAMP_DEVICE void apply(const Span<Storage>& span, int cols, const Memory& memory) {
    const Scalars<S> h = memory.scalars;
    const bool buffer = projects_buffer(h);
    span.for_each([&](auto count, int i) {
      constexpr int kCount = decltype(count)::value;
      Pack<Storage, kCount> p, m, v, g;
      if constexpr (kSource != Source::kTile) {
        m = load<kCount, true>(span.m + i);
        if constexpr (kAdam) v = load<kCount, true>(span.v + i);
        if constexpr (kSource == Source::kMomentsAndGradient) {
          g = load<kCount, true>(span.g + i);
        }
        p = load<kCount, true>(span.p + i);
      }
      bool any = false;
      int row = i / cols;
      int row_end = (row + 1) * cols;
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        if (i + j == row_end) {
          ++row;
          row_end += cols;
        }
        S before, raw;
        if constexpr (kSource == Source::kTile) {
          const int at = span.tile_index(i + j);
          before = memory.p[at];
          raw = memory.u[at];
        } else {
          S variance = S(0), grad = S(0);
          if constexpr (kAdam) variance = v.get(j);
          if constexpr (kSource == Source::kMomentsAndGradient) grad = g.get(j) * h.sign;
          before = p.get(j);
          raw = perturb(m.get(j), variance, grad, h);
        }
        const SharedUpdate<S>& update = memory.row_updates[row];
        p.set(j, before);
        m.set(j, raw);
        if (!update.active) continue;
        any = true;
        if (update.undo) {
          before = recover_weight(before, raw, update.previous.shrink, h.step_size);
          raw += update.previous.radial * before;
        }
        p.set(j, apply_update(before, raw, update.next.shrink, h.step_size));
        m.set(j, raw - update.next.radial * before);
      }
      if (!any) return;
      store<kCount, true>(span.p + i, p);
      if (buffer) store<kCount, true>(span.m + i, m);
    });
  }
};

}  // namespace adamp
