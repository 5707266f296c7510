"""The protocol: who decides, who waits, and what the next launch finds."""

from __future__ import annotations

from kernels.emulation.mutations.mutation import Mutation
from kernels.emulation.sources import FETCH, KERNEL, TENSOR

MUTATIONS = (
    Mutation(
        "decides one item early",
        KERNEL,
        "+ 1 == given.tensor.item_count;",
        "+ 2 == given.tensor.item_count;",
    ),
    Mutation(
        "finishes before the decision",
        KERNEL,
        "wait_until_decided(); const uint32_t decided",
        "const uint32_t decided",
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
        ": load_cross_block(&decision().pending) == 0;",
        ": false;",
    ),
    Mutation("failed rows not reset", KERNEL, "store_cross_block(&decision().failed, 0u);", ""),
    Mutation("pending rows not reset", KERNEL, "store_cross_block(&decision().pending, 0u);", ""),
    Mutation("finish tickets not reset", FETCH, "store_cross_block(&decision.finished, 0u);", ""),
    Mutation(
        "decision not reset",
        FETCH,
        "store_cross_block(&decision.decided, static_cast<uint32_t>(kUndecided));",
        "",
    ),
    Mutation(
        "settled ticket not counted",
        FETCH,
        "if (first_lane) count_finished(decision, *tensor);",
        "",
    ),
    Mutation(
        "settled ticket counted by all lanes",
        FETCH,
        "if (first_lane) count_finished(",
        "count_finished(",
    ),
    Mutation(
        "settled ticket handed to the workers, too",
        FETCH,
        "return false; } if (accumulates)",
        "} if (accumulates)",
    ),
    Mutation("ticket to finish ended as if settled", FETCH, "== kSettled)", "!= kUndecided)"),
    Mutation("undecided ticket ended as if settled", FETCH, "== kSettled)", "!= kToFinish)"),
    Mutation(
        "ticket without a gradient handed to the workers",
        FETCH,
        "if (grad == nullptr) return false;",
        "if (grad == nullptr) return true;",
    ),
    Mutation(
        "tickets reset by the first that runs out",
        KERNEL,
        "next.number == args.n_tickets + block_count() - 1",
        "next.number == args.n_tickets",
    ),
    Mutation(
        "fetches over the ticket at work",
        KERNEL,
        "Fetched& next = state.fetched[turn % 2];",
        "Fetched& next = state.fetched[1 - turn % 2];",
    ),
    Mutation(
        "last outcome of a tensor that is being decided",
        FETCH,
        "if (accumulates && info.view != nullptr) last =",
        "if (info.view != nullptr) last =",
    ),
)
