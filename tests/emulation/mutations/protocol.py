"""The protocol: who decides, who waits, and what the next launch finds."""

from __future__ import annotations

from emulation.mutations.mutation import Mutation
from emulation.sources import KERNEL, TENSOR

MUTATIONS = (
    Mutation(
        "decides one item early",
        KERNEL,
        "+ 1 == state.tensor().item_count;",
        "+ 2 == state.tensor().item_count;",
    ),
    Mutation(
        "finishes before the decision", KERNEL, "while (decided == kUndecided) {", "while (false) {"
    ),
    Mutation(
        "a lane's last row decides what is pending",
        TENSOR,
        "pending += !updated;",
        "pending = !updated;",
    ),
    Mutation(
        "finished though nothing was left",
        TENSOR,
        ": load_cross_block(&state.decision().pending) == 0;",
        ": false;",
    ),
    Mutation(
        "failed rows not reset", KERNEL, "store_cross_block(&state.decision().failed, 0u);", ""
    ),
    Mutation(
        "pending rows not reset", KERNEL, "store_cross_block(&state.decision().pending, 0u);", ""
    ),
    Mutation(
        "finish tickets not reset", KERNEL, "store_cross_block(&state.decision().finished, 0u);", ""
    ),
    Mutation(
        "decision not reset",
        KERNEL,
        "store_cross_block(&state.decision().decided, static_cast<uint32_t>(kUndecided));",
        "",
    ),
    Mutation(
        "tickets reset by the first that runs out",
        KERNEL,
        "next == args.n_tickets + block_count() - 1",
        "next == args.n_tickets",
    ),
)
