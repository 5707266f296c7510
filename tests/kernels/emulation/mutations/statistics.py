"""What a measured kernel leaves for ``optimizer.stats()``."""

from __future__ import annotations

from kernels.emulation.mutations.mutation import Mutation
from kernels.emulation.sources import DECISION, HOST, STATISTICS, STATS, SUMS, TENSOR

MUTATIONS = (
    Mutation("no square of the update", SUMS, "return {sums, u * u};", "return {sums, S(0)};"),
    Mutation(
        "the largest cosine is forgotten over tiles",
        STATISTICS,
        "load_cross_block(&at->max_cosine)};",
        "S(0)};",
    ),
    Mutation(
        "what rows lost where the layer was projected",
        STATS,
        "if (outcome != View::kChannel) { removed =",
        "if (outcome == View::kNone) { removed =",
    ),
    Mutation(
        "noted by each tile",
        TENSOR,
        "if constexpr (kMeasures<M>) store_stats(&slot.stats, memory.stats);",
        "if constexpr (kMeasures<M>) store_stats(&slot.stats, memory.stats);"
        " memory.total = total; note(View::kNone);",
    ),
    Mutation(
        "counted twice",
        DECISION,
        "const Decided decided = decide_by(failed, all_updated());",
        "note(outcome_of(failed, memory.total));"
        " const Decided decided = decide_by(failed, all_updated());",
    ),
    Mutation(
        "a tensor that is never projected is not noted",
        TENSOR,
        "if (is_off && !is_measured()) {",
        "if (is_off) {",
    ),
    Mutation(
        "a tensor that is never projected is passed over twice",
        TENSOR,
        "const bool has_been_updated = is_measured() && is_off;",
        "const bool has_been_updated = false;",
    ),
    Mutation(
        "no space for what is left for statistics alone",
        HOST,
        "(tensor.info.stats != nullptr && !tensor.is_one_tile);",
        "(tensor.info.stats != nullptr && tensor.is_one_tile);",
    ),
    Mutation(
        "what pieces of rows lost",
        TENSOR,
        "measure_rows(given.tensor.rows_are_split ? 0 : rows, memory);",
        "measure_rows(rows, memory);",
    ),
    Mutation(
        "a process tells what its part of a row lost",
        DECISION,
        "const bool is_whole = given.tensor.info.shard.row_sums == nullptr;",
        "const bool is_whole = true;",
    ),
    Mutation(
        "a process tells what its part of a short row lost",
        TENSOR,
        "measure_rows(given.tensor.rows_are_split ? 0 : rows, memory);",
        "measure_rows(given.tensor.rows_span_tiles ? 0 : rows, memory);",
    ),
    Mutation(
        "a process notes its part, too",
        DECISION,
        "if (is_measured()) publish_stats(",
        "note(View::kNone); if (is_measured()) publish_stats(",
    ),
    Mutation(
        "the update of this part alone",
        STATISTICS,
        "memory.total.uu = static_cast<S>(from.stats->uu);",
        "",
    ),
    Mutation(
        "the largest cosine of this part alone",
        STATISTICS,
        "static_cast<S>(*from.max_cosine)};",
        "memory.stats.max_cosine};",
    ),
    Mutation(
        "no decision of parts for statistics alone",
        HOST,
        "if (!is_shard(tensors[t].info) || !leaves_sums(tensors[t])) continue;",
        "if (!is_shard(tensors[t].info) || !needs_decision(tensors[t])) continue;",
    ),
    Mutation(
        "fixed up after a decision for statistics alone",
        HOST,
        "const bool may_fix_up = needs_decision(tensors[t]) && tensors[t].tile_count > 0;",
        "const bool may_fix_up = tensors[t].tile_count > 0;",
    ),
    Mutation(
        "a decision for statistics alone is kept",
        DECISION,
        "return is_measured() && !needs_decision() ? kUndecided : decided;",
        "return decided;",
    ),
    Mutation(
        "the first norm is overwritten",
        STATS,
        "if (to.outcomes[0] + to.outcomes[1] + to.outcomes[2] == 0) to.first_pp",
        "to.first_pp",
    ),
    Mutation(
        "numbers of the host where the device has its own",
        DECISION,
        "memory.total, stats, given.numbers,",
        "memory.total, stats, given.hyper.numbers,",
    ),
    Mutation(
        "statistics of the first warp alone",
        STATISTICS,
        "if (lane_index() < consumer_count() / kWarpSize) stats =",
        "if (lane_index() == 0) stats =",
    ),
    Mutation(
        "no barrier before the statistics of warps are added up",
        DECISION,
        "leave_stats(stats, memory); sync_consumers();",
        "leave_stats(stats, memory);",
    ),
    Mutation(
        "too little space for what a tile leaves",
        HOST,
        "return measures ? sizeof(Slot<float, true>) : sizeof(Slot<float, false>);",
        "return sizeof(Slot<float, false>);",
    ),
)
