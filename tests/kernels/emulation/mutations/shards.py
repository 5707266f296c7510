"""Tensors that several processes have parts of: two launches, and sums of all between them."""

from __future__ import annotations

from kernels.emulation.mutations.mutation import Mutation
from kernels.emulation.sources import DECISION, HOST, KERNEL, PRODUCER, TENSOR

# What advances counts, and what tells that a shard is stepped.
_LEAVE = """if (args.part != Part::kFirst) { if (info.count != nullptr) advance_count(info); }
            else if (info.shard.sums != nullptr) {"""

MUTATIONS = (
    Mutation(
        "decided by this part's elements",
        DECISION,
        "const S numel = S(info.whole_numel());",
        "const S numel = S(info.rows) * S(info.cols);",
    ),
    Mutation(
        "decided before the sums are added up",
        KERNEL,
        "work.publish(failed); } else { decided = work.decide(failed); }",
        "work.publish(failed); } decided = work.decide(failed);",
    ),
    Mutation(
        "a part of one tile decides",
        HOST,
        "tensor.is_one_tile = added.count <= 1 && !is_shard(info);",
        "tensor.is_one_tile = added.count <= 1;",
    ),
    Mutation(
        "a part without tiles is not told of",
        KERNEL,
        "else if (info.shard.sums != nullptr) {",
        "else if (info.shard.sums != nullptr && args.tensors[t].tile_count > 0) {",
    ),
    Mutation(
        "nobody tells of a part where nothing is counted",
        HOST,
        "if (counts || clips || has_shards_)",
        "if (counts || clips)",
    ),
    Mutation(
        "the first launch taken for the whole step",
        HOST,
        "launch_tasks(has_shards_ ? Part::kFirst : Part::kWhole, 0,",
        "launch_tasks(Part::kWhole, 0,",
    ),
    Mutation(
        "the first tasks again in the second launch",
        HOST,
        "args_.tasks = tasks_ + first;",
        "args_.tasks = tasks_;",
    ),
    Mutation(
        "counts advanced in both launches",
        KERNEL,
        _LEAVE,
        "if (info.count != nullptr) advance_count(info);"
        " if (args.part == Part::kFirst && info.shard.sums != nullptr) {",
    ),
    Mutation(
        "counts advanced between the launches",
        KERNEL,
        _LEAVE,
        "if (args.part != Part::kSecond && info.count != nullptr) advance_count(info);"
        " if (args.part == Part::kFirst && info.shard.sums != nullptr) {",
    ),
    Mutation("a skipped step is counted by both", KERNEL, "args.part != Part::kSecond &&", ""),
    Mutation(
        "rows that wait are forgotten",
        DECISION,
        "load_cross_block(&decision().all_updated) != 0);",
        "true);",
    ),
    Mutation(
        "what was done before is forgotten",
        DECISION,
        "store_cross_block(&decision().speculation, memory.speculation);"
        " store_cross_block(&decision().all_updated",
        "store_cross_block(&decision().all_updated",
    ),
    Mutation(
        "failed rows are kept to oneself",
        DECISION,
        "static_cast<double>(failed)",
        "0.0 * failed",
    ),
    Mutation(
        "parts of rows updated by their own sums",
        HOST,
        "tensor.rows_are_split = tensor.rows_span_tiles || info.shard.row_sums != nullptr;",
        "tensor.rows_are_split = tensor.rows_span_tiles;",
    ),
    Mutation(
        "parts of rows taken for thin rows",
        HOST,
        "has_thin_rows(info) && info.shard.row_sums == nullptr;",
        "has_thin_rows(info);",
    ),
    Mutation(
        "another sum of a row",
        DECISION,
        "static_cast<S>(all[4 * row + 3])",
        "static_cast<S>(all[4 * row + 2])",
    ),
    Mutation(
        "pieces left as sums of rows",
        TENSOR,
        "if (!given.tensor.rows_span_tiles) note_row",
        "note_row",
    ),
    Mutation(
        "rows rolled back that were not updated",
        DECISION,
        "static_cast<S>(all[4 * row + 3]), memory.speculation == Speculation::kAllRows}",
        "static_cast<S>(all[4 * row + 3]), 1}",
    ),
    Mutation(
        "no outcome where there is no tile",
        HOST,
        "if (!is_shard(tensors[t].info) || !leaves_sums(tensors[t])) continue;",
        "if (!is_shard(tensors[t].info) || !leaves_sums(tensors[t]) ||"
        " tensors[t].tile_count == 0) continue;",
    ),
    Mutation(
        "no tile for a task that has none", HOST, "if (tiles.empty()) tiles.emplace_back();", ""
    ),
    Mutation(
        "fixed up before the decision",
        HOST,
        "tasks.push_back({0, 0, t, TaskKind::kDecide}); ++tensors[t].fix_up_tasks;"
        " const bool may_fix_up = needs_decision(tensors[t]) && tensors[t].tile_count > 0;"
        " if (may_fix_up) to_fix_up_.push_back({0, t, 0});",
        "const bool may_fix_up = needs_decision(tensors[t]) && tensors[t].tile_count > 0;"
        " if (may_fix_up) to_fix_up_.push_back({0, t, 0});"
        " add_all_fix_up_tasks(resident);"
        " tasks.push_back({0, 0, t, TaskKind::kDecide}); ++tensors[t].fix_up_tasks;",
    ),
    Mutation(
        "the decision is not counted",
        KERNEL,
        "work.decide_whole()); count_fix_up(decision(), given.tensor);",
        "work.decide_whole());",
    ),
    Mutation(
        "the decision of the parts stored without release",
        KERNEL,
        "store_release(&decision().decided, work.decide_whole());",
        "store_cross_block(&decision().decided, uint32_t{work.decide_whole()});",
    ),
    Mutation(
        "all threads decide",
        KERNEL,
        "ADAMP_DEVICE void decide_whole() { if (thread_index() != 0) return;",
        "ADAMP_DEVICE void decide_whole() {",
    ),
    Mutation(
        "the end of a long entry is not copied",
        PRODUCER,
        "kEach = (kWords + kWarpSize - 1) / kWarpSize;",
        "kEach = kWords / kWarpSize;",
    ),
)
