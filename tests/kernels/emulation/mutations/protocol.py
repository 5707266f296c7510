"""The protocol: who decides, who waits, and what the next launch finds."""

from __future__ import annotations

from kernels.emulation.mutations.mutation import Mutation
from kernels.emulation.sources import DECISION, KERNEL, PRODUCER, TENSOR

MUTATIONS = (
    Mutation(
        "decides one tile too soon",
        KERNEL,
        "+ 1 == given.tensor.tile_count;",
        "+ 2 == given.tensor.tile_count;",
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
        DECISION,
        ": load_cross_block(&decision().pending) == 0;",
        ": false;",
    ),
    Mutation("failed rows not reset", KERNEL, "store_cross_block(&decision().failed, 0u);", ""),
    Mutation("pending rows not reset", KERNEL, "store_cross_block(&decision().pending, 0u);", ""),
    Mutation("fix-up tasks not reset", PRODUCER, "store_cross_block(&decision.fixed_up, 0u);", ""),
    Mutation(
        "decision not reset",
        PRODUCER,
        "store_cross_block(&decision.decided, static_cast<uint32_t>(kUndecided));",
        "",
    ),
    Mutation(
        "resolved task not counted",
        PRODUCER,
        "if (first_lane) count_fix_up(decision, *tensor);",
        "",
    ),
    Mutation(
        "resolved task counted by all lanes",
        PRODUCER,
        "if (first_lane) count_fix_up(",
        "count_fix_up(",
    ),
    Mutation(
        "resolved task handed to the consumers, too",
        PRODUCER,
        "return false; } if (accumulates)",
        "} if (accumulates)",
    ),
    Mutation("task to fix up ended as if resolved", PRODUCER, "== kResolved)", "!= kUndecided)"),
    Mutation("undecided task ended as if resolved", PRODUCER, "== kResolved)", "!= kNeedsFixUp)"),
    Mutation(
        "task without a gradient handed to the consumers",
        PRODUCER,
        "if (grad == nullptr && task.kind != TaskKind::kNorm) return false;",
        "if (grad == nullptr) return true;",
    ),
    Mutation(
        "tasks reset by the first that runs out",
        KERNEL,
        "next.number == args.n_tasks + block_count() - 1",
        "next.number == args.n_tasks",
    ),
    Mutation(
        "fetches over the task at work",
        KERNEL,
        "produce<M>(args, state.launch, state.prefetched[turn % 2]);",
        "produce<M>(args, state.launch, state.prefetched[1 - turn % 2]);",
    ),
    Mutation(
        "last outcome of a tensor that is being decided",
        PRODUCER,
        "if (accumulates && info.view != nullptr) last =",
        "if (info.view != nullptr) last =",
    ),
)
