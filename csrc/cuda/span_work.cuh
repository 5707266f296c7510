// The two loops over the elements of a span: sweep the moments, apply the updates.
//
// The mathematics is in ../core/methods.h and projection.h; which thread loads which element, in
// span.cuh.
#pragma once

#include "shared_memory.cuh"

namespace adamp {

template <class M, class Types>
struct SpanWork {
  using Memory = MemoryOf<M, Types>;
  using S = typename Memory::S;
  using param_t = typename Types::param_t;
  using grad_t = typename Types::grad_t;
  using state_t = typename Types::state_t;
  static constexpr bool kMoment2 = kTwoMoments<M>;

  // Moves the moments of a span; kUpdate: and the weights, by the plain update; kKeep: p, g and u
  // stay in the tile; kSecondPass: the tensor will be read again once it is decided.
  template <bool kUpdate, bool kKeep, bool kSecondPass>
  static ADAMP_DEVICE void sweep(const Span<Types>& span, Memory& memory) {
    const Scalars<S> h = memory.scalars;
    span.for_each([&](auto count, int i) {
      constexpr int kCount = decltype(count)::value;
      Pack<param_t, kCount> p = load<kCount, !kSecondPass>(span.p + i);
      const Pack<grad_t, kCount> g = load<kCount, true>(span.g + i);
      Pack<state_t, kCount> m = load<kCount, !kSecondPass>(span.m + i);
      Pack<state_t, kCount> v = {};
      if constexpr (kMoment2) v = load<kCount, !kSecondPass>(span.v + i);
      constexpr int kAtOnce = TileBuffer<param_t>::template kAtOnce<kCount>;
#pragma unroll
      for (int first = 0; first < kCount; first += kAtOnce) {
        S weights[kAtOnce], grads[kAtOnce], us[kAtOnce];
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          const int j = first + k;
          const S weight = p.get(j), grad = g.get(j) * h.factor;
          // u follows from the moments as stored: what a later pass reads back.
          m.set(j, M::moment1(m.get(j), grad, h));
          if constexpr (kMoment2) v.set(j, M::moment2(v.get(j), grad, h));
          const S u = M::perturb(m.get(j), v.get(j), grad, h);
          if constexpr (kUpdate) {
            p.set(j, apply_update(weight, u, plain_update(h), h));
          }
          weights[k] = weight;
          grads[k] = grad;
          us[k] = u;
        }
        if constexpr (kKeep) {
          memory.p.put(span, i + first, weights);
          memory.g.put(span, i + first, grads);
          memory.u.put(span, i + first, us);
        }
      }
      store<kCount, !kSecondPass>(span.m + i, m);
      if constexpr (kMoment2) store<kCount, !kSecondPass>(span.v + i, v);
      if constexpr (kUpdate) store<kCount, !kSecondPass>(span.p + i, p);
    });
  }

  // Applies the row updates of a span whose p and u are in the tile. None of them is rolled back.
  static ADAMP_DEVICE void apply_kept(const Span<Types>& span, int cols, const Memory& memory) {
    const Scalars<S> h = memory.scalars;
    const bool buffer = projects_buffer<M>(h);
    const float rows_each = rows_per_element(cols);
    span.for_each([&](auto count, int i) {
      constexpr int kCount = decltype(count)::value;
      constexpr int kAtOnce = TileBuffer<param_t>::template kAtOnce<kCount>;
      Pack<param_t, kCount> p = {};
      Pack<state_t, kCount> m = {};
      int row = row_of(i, rows_each);
      int row_end = (row + 1) * cols;
      bool active = memory.row_updates[row].active;
      RowUpdate<S> update = memory.row_updates[row].next;
      bool any = false;
#pragma unroll
      for (int first = 0; first < kCount; first += kAtOnce) {
        S weights[kAtOnce], us[kAtOnce];
        memory.p.get(span, i + first, weights);
        memory.u.get(span, i + first, us);
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          const int j = first + k;
          if (i + j == row_end) {
            ++row;
            row_end += cols;
            active = memory.row_updates[row].active;
            update = memory.row_updates[row].next;
          }
          const S updated = apply_update(weights[k], us[k], update, h);
          p.set(j, active ? updated : weights[k]);
          if (buffer) m.set(j, active ? us[k] - radial_part(weights[k], update.radial) : us[k]);
          any |= active;
        }
      }
      if (!any) return;
      store<kCount, true>(span.p + i, p);
      if (buffer) store<kCount, true>(span.m + i, m);
    });
  }

  // The same where p and u must be read again: u follows from the moments, and with nesterov from
  // the gradient, too.
  template <bool kNesterov>
  static ADAMP_DEVICE void fix_up_rows(const Span<Types>& span, int cols, const Memory& memory) {
    const Scalars<S> h = memory.scalars;
    const bool buffer = projects_buffer<M>(h);
    const float rows_each = rows_per_element(cols);
    span.for_each([&](auto count, int i) {
      constexpr int kCount = decltype(count)::value;
      Pack<param_t, kCount> p = load<kCount, true>(span.p + i);
      Pack<state_t, kCount> m = load<kCount, true>(span.m + i), v = {};
      Pack<grad_t, kCount> g = {};
      if constexpr (kMoment2) v = load<kCount, true>(span.v + i);
      if constexpr (kNesterov) g = load<kCount, true>(span.g + i);
      bool any = false;
      int row = row_of(i, rows_each);
      int row_end = (row + 1) * cols;
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        if (i + j == row_end) {
          ++row;
          row_end += cols;
        }
        const SharedUpdate<S>& update = memory.row_updates[row];
        if (!update.active) continue;
        any = true;
        S variance = S(0), grad = S(0);
        if constexpr (kMoment2) variance = v.get(j);
        if constexpr (kNesterov) grad = g.get(j) * h.factor;
        S weight = p.get(j), u = M::perturb(m.get(j), variance, grad, h);
        if (update.roll_back) {
          weight = recover_weight(weight, u, update.previous.shrink, h.step_size);
          u += radial_part(weight, update.previous.radial);
        }
        p.set(j, apply_update(weight, u, update.next, h));
        if (buffer) m.set(j, u - radial_part(weight, update.next.radial));
      }
      if (!any) return;
      store<kCount, true>(span.p + i, p);
      if (buffer) store<kCount, true>(span.m + i, m);
    });
  }

  // Stores what the tile holds: p, and in the place of u the projected buffer.
  static ADAMP_DEVICE void store_kept(const Span<Types>& span, const Memory& memory) {
    const bool buffer = projects_buffer<M>(memory.scalars);
    span.for_each([&](auto count, int i) {
      constexpr int kCount = decltype(count)::value;
      constexpr int kAtOnce = TileBuffer<param_t>::template kAtOnce<kCount>;
      Pack<param_t, kCount> p = {};
      Pack<state_t, kCount> m = {};
#pragma unroll
      for (int first = 0; first < kCount; first += kAtOnce) {
        S weights[kAtOnce], us[kAtOnce];
        memory.p.get(span, i + first, weights);
        memory.u.get(span, i + first, us);
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          p.set(first + k, weights[k]);
          m.set(first + k, us[k]);
        }
      }
      store<kCount, true>(span.p + i, p);
      if (buffer) store<kCount, true>(span.m + i, m);
    });
  }

  // Brings p and u of a span back to the tile. The moments are put there first, u in their place
  // one at a time: several at once would take too many registers.
  static ADAMP_DEVICE void reload(const Span<Types>& span, Memory& memory) {
    const Scalars<S>& h = memory.scalars;
    span.for_each([&](auto count, int i) {
      constexpr int kCount = decltype(count)::value;
      const Pack<param_t, kCount> p = load<kCount, true>(span.p + i);
      const Pack<state_t, kCount> m = load<kCount, true>(span.m + i);
      Pack<state_t, kCount> v = {};
      if constexpr (kMoment2) v = load<kCount, true>(span.v + i);
      constexpr int kAtOnce = TileBuffer<param_t>::template kAtOnce<kCount>;
#pragma unroll
      for (int first = 0; first < kCount; first += kAtOnce) {
        S weights[kAtOnce], moments1[kAtOnce], moments2[kAtOnce];
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          weights[k] = p.get(first + k);
          moments1[k] = m.get(first + k);
          if constexpr (kMoment2) moments2[k] = v.get(first + k);
        }
        memory.p.put(span, i + first, weights);
        memory.u.put(span, i + first, moments1);
        if constexpr (kMoment2) memory.g.put(span, i + first, moments2);
      }
#pragma unroll 1
      for (int k = i; k < i + kCount; ++k) {
        S variance = S(0), grad = S(0);
        if constexpr (kMoment2) variance = memory.g(span, k);
        if (h.nesterov) grad = to_arithmetic(span.g[k]) * h.factor;
        const S u[1] = {M::perturb(memory.u(span, k), variance, grad, h)};
        memory.u.put(span, k, u);
      }
    });
  }
};

}  // namespace adamp
