"""What the host makes for a launch: tables, tasks, scratch and values."""

from __future__ import annotations

from kernels.emulation.mutations.mutation import Mutation
from kernels.emulation.sources import HOST, TILES

MUTATIONS = (
    Mutation(
        "waits for a higher task",
        HOST,
        "to_fix_up_.push_back({n_tasks() + lag, t, 0});",
        "tasks.insert(tasks.end() - tensors[t].tile_count, {tensors[t].first_tile,"
        " tensors[t].tile_count, t, TaskKind::kFixUp}), ++tensors[t].fix_up_tasks;",
    ),
    Mutation(
        "fix-up tasks miss the last tiles",
        HOST,
        "if (waiting.next_item == tensor.tile_count)",
        "if (waiting.next_item + 1 >= tensor.tile_count)",
    ),
    Mutation(
        "fix-up tasks counted twice",
        HOST,
        "++tensor.fix_up_tasks;",
        "tensor.fix_up_tasks += 2;",
    ),
    Mutation(
        "scratch of two tensors overlaps",
        HOST,
        "scratch_bytes += (bytes + 15) / 16 * 16;",
        "scratch_bytes += bytes / 32 * 16;",
    ),
    Mutation(
        "32-bit scratch size", HOST, "int64_t scratch_bytes = 0;", "int32_t scratch_bytes = 0;"
    ),
    Mutation("32-bit count of columns", TILES, "for (int64_t col = 0;", "for (int32_t col = 0;"),
    Mutation(
        "second moment's alignment ignored",
        HOST,
        "(info.moment2 == nullptr || boundary(info.param) == boundary(info.moment2))",
        "true",
    ),
    Mutation("values of an earlier step", HOST, "args_.step_values = nullptr;", ""),
    Mutation("empty plan launched", HOST, "if (!idle) launch_tasks", "launch_tasks"),
)
