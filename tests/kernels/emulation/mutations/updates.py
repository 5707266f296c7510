"""The decision, and the updates that follow from it."""

from __future__ import annotations

from kernels.emulation.mutations.mutation import Mutation
from kernels.emulation.sources import (
    DECISION,
    LOOPS,
    METHODS,
    PRODUCER,
    PROJECTION,
    SPECULATION,
    TENSOR,
    THIN,
)

MUTATIONS = (
    Mutation(
        "a row's length in the layer's test",
        DECISION,
        "const S numel = S(info.whole_numel());",
        "const S numel = S(info.cols);",
    ),
    Mutation(
        "length of a piece in a row's test",
        DECISION,
        "const int64_t pieces = given.tensor.tile_count / given.tensor.info.rows; const S"
        " bound = cosine_bound(S(given.tensor.info.cols), memory.scalars);",
        "const int64_t pieces = given.tensor.tile_count / given.tensor.info.rows; const S"
        " bound = cosine_bound(S(given.tensor.info.cols / pieces), memory.scalars);",
    ),
    Mutation("gradient's norm not clamped", PROJECTION, "(norm_g > eps ? norm_g : eps)", "norm_g"),
    Mutation(
        "weight against gradient always passes",
        PROJECTION,
        "return s.pg < limit && -s.pg < limit;",
        "return s.pg < limit;",
    ),
    Mutation(
        "zero gradient passes where delta is zero",
        PROJECTION,
        "return s.pg < limit && -s.pg < limit;",
        "return s.pg <= limit && -s.pg <= limit;",
    ),
    Mutation(
        "NaN passes",
        PROJECTION,
        "return s.pg < limit && -s.pg < limit;",
        "return !(s.pg >= limit) && !(-s.pg >= limit);",
    ),
    Mutation("delta taken for wd_ratio", METHODS, "S(decay * h.wd_ratio)", "S(decay * h.delta)"),
    Mutation(
        "options by tensor, not by group",
        PRODUCER,
        "launch.hypers[launch.hyper_indices[task.tensor]];",
        "launch.hypers[task.tensor];",
    ),
    Mutation(
        "stale view",
        DECISION,
        "if (given.tensor.info.view != nullptr) { store_cross_block(",
        "if (given.tensor.info.view != nullptr && outcome != View::kLayer) { store_cross_block(",
    ),
    Mutation(
        "half precision updated on speculation",
        SPECULATION,
        "if (one_tile || size_of(dtype) < 4) return Speculation::kNone;",
        "if (one_tile) return Speculation::kNone;",
        all_types=True,
    ),
    Mutation(
        "plain update that cannot be rolled back",
        SPECULATION,
        "if (last == View::kNone && can_roll_back(plain_update(h), h))",
        "if (last == View::kNone)",
    ),
    Mutation(
        "projected update that cannot be rolled back",
        SPECULATION,
        "(passes && can_roll_back(channel, h))",
        "passes",
    ),
    Mutation("missing roll-back", LOOPS, "if (update.roll_back) {", "if (false) {"),
    Mutation(
        "roll-back of what was never done",
        TENSOR,
        "update.roll_back = updated;",
        "update.roll_back = true;",
    ),
    Mutation(
        "projected buffer not rolled back",
        PROJECTION,
        "if (!buffer_was_projected) return {applied.shrink, S(0)};",
        "return {applied.shrink, S(0)};",
    ),
    Mutation(
        "sign lost when the fix-up pass",
        LOOPS,
        "if constexpr (kNesterov) grad = g.get(j) * h.factor; S weight",
        "if constexpr (kNesterov) grad = g.get(j); S weight",
    ),
    Mutation(
        "sign lost when thin rows are read again",
        LOOPS,
        "grad = to_arithmetic(span.g[k]) * h.factor;",
        "grad = to_arithmetic(span.g[k]);",
    ),
    Mutation(
        "thin rows updated on speculation though no record tells which",
        TENSOR,
        "if (thin() && needs_decision() && memory.speculation == Speculation::kChannelRows) {",
        "if (false) {",
    ),
    Mutation(
        "thin rows' plain update not rolled back",
        TENSOR,
        "if (memory.speculation == Speculation::kAllRows) { Thin::roll_back",
        "if (false) { Thin::roll_back",
    ),
    Mutation(
        "only the first warp's thin rows can fail",
        TENSOR,
        "warp_sum(found ? memory.warp_failed[warp] : 0)",
        "warp_sum(warp == 0 ? memory.warp_failed[warp] : 0)",
    ),
    Mutation(
        "thin rows always projected channel-wise",
        TENSOR,
        "cols_of(tile), outcome == View::kChannel,",
        "cols_of(tile), true,",
    ),
    Mutation(
        "thin rows' buffer not projected",
        THIN,
        "{u - radial_part(weight, update.radial)}",
        "{u}",
    ),
    Mutation(
        "infinite weight made NaN",
        PROJECTION,
        "return p_new - p_new == T{} ? p_new : in_order;",
        "return p_new;",
    ),
    Mutation(
        "projected along an infinite norm",
        PROJECTION,
        "const S along = norm == S(INFINITY) ? S(0) : pu;",
        "const S along = pu;",
    ),
    Mutation(
        "buffer of an infinite weight made NaN",
        PROJECTION,
        "return p - p == T{} ? radial * p : T{};",
        "return radial * p;",
    ),
)
