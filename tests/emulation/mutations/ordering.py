"""Barriers, and the order of memory between blocks."""

from __future__ import annotations

from emulation.mutations.mutation import Mutation
from emulation.sources import KERNEL, TENSOR

MUTATIONS = (
    Mutation(
        "no barrier between sweep and sums",
        TENSOR,
        "sync_block(); sum_tile_rows(span, rows, cols, memory);",
        "sum_tile_rows(span, rows, cols, memory);",
    ),
    Mutation(
        "no barrier between judgement and update",
        TENSOR,
        "judge_rows(item, rows, early); sync_block();",
        "judge_rows(item, rows, early);",
    ),
    Mutation(
        "no barrier before arrival",
        KERNEL,
        "ADAMP_DEVICE void arrive() { sync_block();",
        "ADAMP_DEVICE void arrive() {",
    ),
    Mutation(
        "no barrier between rounds of joined rows",
        TENSOR,
        "} } sync_block(); } return",
        "} } } return",
        all_types=True,
    ),
    Mutation(
        "barrier in one warp only",
        TENSOR,
        "if (thread_index() < kWarpSize) judge_rows(item, rows, early);",
        "if (thread_index() < kWarpSize) { judge_rows(item, rows, early); sync_block(); }",
    ),
    Mutation(
        "relaxed arrival",
        KERNEL,
        "fetch_add_acq_rel(&state.decision().arrived, 1)",
        "fetch_add_relaxed(&state.decision().arrived, 1)",
    ),
    Mutation(
        "decision stored without release",
        KERNEL,
        "store_release(&state.decision().decided, decided);",
        "store_cross_block(&state.decision().decided, uint32_t{decided});",
    ),
    Mutation(
        "relaxed end of finishing",
        KERNEL,
        "fetch_add_acq_rel(&state.decision().finished, 1)",
        "fetch_add_relaxed(&state.decision().finished, 1)",
    ),
)
