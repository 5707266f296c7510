"""Barriers, and the order of memory between blocks."""

from __future__ import annotations

from kernels.emulation.mutations.mutation import Mutation
from kernels.emulation.sources import DECISION, KERNEL, PRODUCER, TENSOR, THIN

MUTATIONS = (
    Mutation(
        "no barrier between sweep and sums",
        TENSOR,
        "sync_consumers(); if (thin()) {",
        "if (thin()) {",
    ),
    Mutation(
        "no barrier between judgement and update",
        TENSOR,
        "test_rows(tile, rows_of(tile), speculation); } sync_consumers();",
        "test_rows(tile, rows_of(tile), speculation); }",
    ),
    Mutation(
        "no barrier between thin rows' sums and their total",
        TENSOR,
        "test, memory); sync_consumers();",
        "test, memory);",
    ),
    Mutation(
        "no barrier between thin rows' update and their stores",
        THIN,
        "sync_consumers(); Loops::store_kept(span, memory);",
        "Loops::store_kept(span, memory);",
    ),
    Mutation(
        "no barrier between thin rows that are read again and their sums",
        TENSOR,
        "sync_consumers(); if (memory.speculation == Speculation::kAllRows) { Thin::roll_back",
        "if (memory.speculation == Speculation::kAllRows) { Thin::roll_back",
    ),
    Mutation(
        "no barrier between two tiles of thin rows",
        TENSOR,
        "apply_thin(tile); sync_consumers();",
        "apply_thin(tile);",
    ),
    Mutation(
        "no barrier before arrival",
        KERNEL,
        "ADAMP_DEVICE void arrive() { sync_consumers();",
        "ADAMP_DEVICE void arrive() {",
    ),
    Mutation(
        "no barrier between rounds of joined rows",
        DECISION,
        "} } sync_consumers(); } return",
        "} } } return",
        all_types=True,
    ),
    Mutation(
        "no barrier between fetch and work",
        KERNEL,
        "} sync_block(); const Prefetched& next",
        "} const Prefetched& next",
    ),
    Mutation(
        "no barrier between the tables' addresses and the first fetch",
        KERNEL,
        "state.launch = launch_of(args); sync_block();",
        "state.launch = launch_of(args);",
    ),
    Mutation(
        "all threads' barrier in the consumers' work",
        KERNEL,
        "ADAMP_DEVICE void arrive() { sync_consumers();",
        "ADAMP_DEVICE void arrive() { sync_block();",
    ),
    Mutation(
        "barrier in one warp only",
        TENSOR,
        "if (thread_index() < kWarpSize) test_rows(tile, rows_of(tile), speculation);",
        "if (thread_index() < kWarpSize) { test_rows(tile, rows_of(tile), speculation);"
        " sync_consumers(); }",
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
        "relaxed end of the fix-up pass",
        PRODUCER,
        "fetch_add_acq_rel(&decision.fixed_up, 1)",
        "fetch_add_relaxed(&decision.fixed_up, 1)",
    ),
    Mutation(
        "relaxed look at a resolved tensor",
        PRODUCER,
        "load_acquire(&decision.decided) == kResolved",
        "load_relaxed(&decision.decided) == kResolved",
    ),
)
