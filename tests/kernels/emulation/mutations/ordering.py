"""Barriers, and the order of memory between blocks."""

from __future__ import annotations

from kernels.emulation.mutations.mutation import Mutation
from kernels.emulation.sources import FETCH, KERNEL, TENSOR, THIN

MUTATIONS = (
    Mutation(
        "no barrier between sweep and sums",
        TENSOR,
        "sync_workers(); if (thin()) {",
        "if (thin()) {",
    ),
    Mutation(
        "no barrier between judgement and update",
        TENSOR,
        "judge_rows(item, rows_of(item), early); } sync_workers();",
        "judge_rows(item, rows_of(item), early); }",
    ),
    Mutation(
        "no barrier between thin rows' sums and their total",
        TENSOR,
        "test, memory); sync_workers();",
        "test, memory);",
    ),
    Mutation(
        "no barrier between thin rows' update and their stores",
        THIN,
        "sync_workers(); Loops::store_kept(span, memory);",
        "Loops::store_kept(span, memory);",
    ),
    Mutation(
        "no barrier between thin rows that are read again and their sums",
        TENSOR,
        "sync_workers(); if (memory.early == Early::kAllRows) { Thin::undo",
        "if (memory.early == Early::kAllRows) { Thin::undo",
    ),
    Mutation(
        "no barrier between two items of thin rows",
        TENSOR,
        "apply_thin(item); sync_workers();",
        "apply_thin(item);",
    ),
    Mutation(
        "no barrier before arrival",
        KERNEL,
        "ADAMP_DEVICE void arrive() { sync_workers();",
        "ADAMP_DEVICE void arrive() {",
    ),
    Mutation(
        "no barrier between rounds of joined rows",
        TENSOR,
        "} } sync_workers(); } return",
        "} } } return",
        all_types=True,
    ),
    Mutation(
        "no barrier between fetch and work",
        KERNEL,
        "} sync_block(); if (next.number < args.n_tickets) continue;",
        "} if (next.number < args.n_tickets) continue;",
    ),
    Mutation(
        "no barrier between the tables' addresses and the first fetch",
        KERNEL,
        "state.launch = launch_of(args); sync_block();",
        "state.launch = launch_of(args);",
    ),
    Mutation(
        "all threads' barrier in the workers' work",
        KERNEL,
        "ADAMP_DEVICE void arrive() { sync_workers();",
        "ADAMP_DEVICE void arrive() { sync_block();",
    ),
    Mutation(
        "barrier in one warp only",
        TENSOR,
        "if (thread_index() < kWarpSize) judge_rows(item, rows_of(item), early);",
        "if (thread_index() < kWarpSize) { judge_rows(item, rows_of(item), early);"
        " sync_workers(); }",
    ),
    Mutation(
        "relaxed arrival",
        KERNEL,
        "fetch_add_acq_rel(&decision().arrived, 1)",
        "fetch_add_relaxed(&decision().arrived, 1)",
    ),
    Mutation(
        "decision stored without release",
        KERNEL,
        "store_release(&decision().decided, decided);",
        "store_cross_block(&decision().decided, uint32_t{decided});",
    ),
    Mutation(
        "relaxed end of finishing",
        FETCH,
        "fetch_add_acq_rel(&decision.finished, 1)",
        "fetch_add_relaxed(&decision.finished, 1)",
    ),
    Mutation(
        "relaxed look at a settled tensor",
        FETCH,
        "load_acquire(&decision.decided) == kSettled",
        "load_relaxed(&decision.decided) == kSettled",
    ),
)
