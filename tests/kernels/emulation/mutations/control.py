"""What the device decides: counts, the scale of gradients, skipped steps, the norm of all."""

from __future__ import annotations

from kernels.emulation.mutations.mutation import Mutation
from kernels.emulation.sources import CONTROL, HOST, KERNEL, NORM, PRODUCER

MUTATIONS = (
    Mutation(
        "a skipped step moves weights",
        CONTROL,
        "return control.found_inf != nullptr && *control.found_inf != 0;",
        "return false;",
    ),
    Mutation(
        "a skipped step is counted by each block",
        KERNEL,
        "&& block_index() == 0 && thread_index() == 0",
        "&& thread_index() == 0",
    ),
    Mutation(
        "a skipped step advances the counts",
        KERNEL,
        "return; } if (thread_index() == 0) state.launch",
        "return leave(args, state); } if (thread_index() == 0) state.launch",
    ),
    Mutation(
        "a stale count",
        CONTROL,
        "M::correct_bias(h, count_of(info) + 1, now);",
        "M::correct_bias(h, count_of(info), now);",
    ),
    Mutation("the count is not advanced", CONTROL, "*static_cast<float*>(info.count) += 1;", ""),
    Mutation(
        "a tensor without a gradient is counted",
        KERNEL,
        "if (state.launch.grads[t] == nullptr) continue;",
        "",
    ),
    Mutation(
        "counts are advanced by each block",
        KERNEL,
        "if (!state.is_last) return;",
        "",
    ),
    Mutation(
        "counts are advanced by the first to leave",
        KERNEL,
        "fetch_add_acq_rel(args.blocks_left, 1) + 1 == uint32_t(block_count());",
        "fetch_add_acq_rel(args.blocks_left, 1) == 0;",
    ),
    Mutation(
        "counts are advanced without order",
        KERNEL,
        "fetch_add_acq_rel(args.blocks_left, 1)",
        "fetch_add_relaxed(args.blocks_left, 1)",
    ),
    Mutation(
        "blocks that left are not reset", KERNEL, "store_cross_block(args.blocks_left, 0u);", ""
    ),
    Mutation(
        "the learning rate of the host",
        CONTROL,
        "if (h.device_lr != nullptr) now.lr = *h.device_lr;",
        "",
    ),
    Mutation(
        "the weight decay of the host",
        CONTROL,
        "if (h.device_weight_decay != nullptr) now.weight_decay = *h.device_weight_decay;",
        "",
    ),
    Mutation(
        "a scale applied twice",
        KERNEL,
        "return launch.factor * load_cross_block(&launch.norm->coefficient);",
        "return launch.factor * launch.factor * load_cross_block(&launch.norm->coefficient);",
    ),
    Mutation(
        "a scale for its inverse", CONTROL, "1 / double(*control.grad_scale)", "*control.grad_scale"
    ),
    Mutation(
        "the norm before unscaling", NORM, "const S scale = S(launch.factor);", "const S scale = 1;"
    ),
    Mutation(
        "the norm without its root",
        NORM,
        "const double root = square_root(sum);",
        "const double root = sum;",
    ),
    Mutation(
        "clips below the norm that is allowed",
        CONTROL,
        "return coefficient > 1 ? 1 : coefficient;",
        "return coefficient;",
    ),
    Mutation(
        "updates before the norm is known",
        KERNEL,
        'wait_for(&launch.norm->known, "waits in vain for the norm of the gradients");',
        "",
    ),
    Mutation(
        "the norm is read without order",
        KERNEL,
        "load_acquire(&launch.norm->known);",
        "",
    ),
    Mutation(
        "the norm without the last task",
        NORM,
        "+ 1 == args.n_norm_tasks;",
        "+ 2 == args.n_norm_tasks;",
    ),
    Mutation(
        "a norm task without a gradient is left out",
        PRODUCER,
        "if (grad == nullptr && task.kind != TaskKind::kNorm) return false;",
        "if (grad == nullptr) return false;",
    ),
    Mutation(
        "the gradient of another step in the norm",
        NORM,
        "if (given.grad != nullptr) { for",
        "{ for",
    ),
    Mutation("norm tasks not reset", NORM, "store_cross_block(&norm.arrived, 0u);", ""),
    Mutation(
        "the norm stays known",
        KERNEL,
        "if (args.norm != nullptr) store_cross_block(&args.norm->known, 0u);",
        "",
    ),
    Mutation(
        "tiles left out of the norm",
        HOST,
        "end > 0; end -= kTilesPerNorm",
        "end > kTilesPerNorm; end -= kTilesPerNorm",
    ),
)
