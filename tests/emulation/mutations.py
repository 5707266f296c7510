"""Planted faults: each is one edit of the device code or of its tables that must be noticed."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One edit.

    Attributes:
        name: what it breaks.
        file: in csrc.
        old: the text it replaces; must occur once. Any white space matches any other.
        new: what takes its place.
        all_types: False where float32 plans show it, which compile and run faster.
    """

    name: str
    file: str
    old: str
    new: str
    all_types: bool = False

    def apply(self, text: str) -> str:
        """Return the edited text."""
        pattern = r"\s+".join(re.escape(word) for word in self.old.split())
        found = re.findall(pattern, text)
        assert len(found) == 1, f"{self.name}: {len(found)} places in {self.file} match"
        return re.sub(pattern, lambda _: self.new, text)


KERNEL = "cuda/kernel.cuh"
SPANS = "cuda/span_work.cuh"
HOST = "cuda/executor.cpp"
FORMULAS = "formulas.h"
EARLY = "early.h"
PLAN = "work_plan.h"

MUTATIONS = (
    # Indices.
    Mutation(
        "tail one short",
        SPANS,
        "if (thread_index() < singles) {",
        "if (thread_index() < singles - 1) {",
    ),
    Mutation(
        "one wide access too many",
        SPANS,
        "const int packs = (span.count - span.head) / kWidth;",
        "const int packs = (span.count - span.head + kWidth - 1) / kWidth;",
    ),
    Mutation(
        "head ignored",
        SPANS,
        "span.head = before < span.count ? before : span.count;",
        "span.head = 0;",
    ),
    Mutation(
        "gradient's alignment ignored",
        SPANS,
        "span.wide = tensor.wide != 0 && (p - reinterpret_cast<uintptr_t>(span.g)) % 16 == 0;",
        "span.wide = tensor.wide != 0;",
    ),
    Mutation(
        "32-bit element index",
        SPANS,
        "const int64_t offset = item.row_begin * tensor.info.cols + item.col_begin;",
        "const int32_t offset ="
        " static_cast<int32_t>(item.row_begin * tensor.info.cols + item.col_begin);",
    ),
    Mutation(
        "tensor's sums left in the last row's place",
        KERNEL,
        "note_outcome(outcome); RowRecord<S>& whole = records()[tensor().info.rows];",
        "note_outcome(outcome); RowRecord<S>& whole = records()[tensor().info.rows - 1];",
    ),
    Mutation(
        "swapped row index",
        KERNEL,
        "const RowRecord<S>& record = records()[item.row_begin + row];",
        "const RowRecord<S>& record = records()[row];",
    ),
    Mutation("row not advanced in a wide access", SPANS, "++row;", ""),
    Mutation(
        "one row too many for the warps' sums",
        SPANS,
        "if (rows < kWarps) {",
        "if (rows < kWarps + 2) {",
    ),
    Mutation(
        "scratch of two tensors overlaps",
        HOST,
        "scratch_bytes += (bytes + 15) / 16 * 16;",
        "scratch_bytes += bytes / 32 * 16;",
    ),
    # Barriers and the order of memory.
    Mutation(
        "no barrier between sweep and sums",
        KERNEL,
        "sync_block(); Work::sum_tile_rows(span, rows, cols, memory);",
        "Work::sum_tile_rows(span, rows, cols, memory);",
    ),
    Mutation(
        "no barrier between judgement and update",
        KERNEL,
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
        "barrier in one warp only",
        KERNEL,
        "if (thread_index() < kWarpSize) judge_rows(item, rows, early);",
        "if (thread_index() < kWarpSize) { judge_rows(item, rows, early); sync_block(); }",
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
        "store_release(&decision().decided, settled ? kSettled : kToFinish);",
        "store_cross_block(&decision().decided, uint32_t{settled ? kSettled : kToFinish});",
    ),
    Mutation(
        "relaxed end of finishing",
        KERNEL,
        "fetch_add_acq_rel(&decision().finished, 1)",
        "fetch_add_relaxed(&decision().finished, 1)",
    ),
    # The protocol.
    Mutation(
        "decides one item early",
        KERNEL,
        "+ 1 == tensor().item_count;",
        "+ 2 == tensor().item_count;",
    ),
    Mutation(
        "finishes before the decision",
        KERNEL,
        "while (decided == kUndecided) {",
        "while (false) {",
    ),
    Mutation("failed rows not reset", KERNEL, "store_cross_block(&decision().failed, 0u);", ""),
    Mutation(
        "finish tickets not reset", KERNEL, "store_cross_block(&decision().finished, 0u);", ""
    ),
    Mutation(
        "decision not reset",
        KERNEL,
        "store_cross_block(&decision().decided, static_cast<uint32_t>(kUndecided));",
        "",
    ),
    Mutation(
        "tickets reset by the first that runs out",
        KERNEL,
        "next == args.n_tickets + block_count() - 1",
        "next == args.n_tickets",
    ),
    Mutation(
        "waits for a higher ticket",
        HOST,
        "to_finish.emplace_back(n_tickets() + lag, t);",
        "tickets.insert(tickets.end() - tensors[t].item_count,"
        " {tensors[t].first_item, tensors[t].item_count, t, TicketKind::kFinish});",
    ),
    Mutation(
        "finish tickets miss the last items",
        HOST,
        "std::min<int64_t>(kItemsPerFinish, tensor.item_count - i);",
        "std::min<int64_t>(kItemsPerFinish - 1, tensor.item_count - i);",
    ),
    # The decision and what follows from it.
    Mutation("missing undo", SPANS, "if (update.undo) {", "if (false) {"),
    Mutation(
        "undo of what was never done", KERNEL, "update.undo = updated;", "update.undo = true;"
    ),
    Mutation(
        "stale view",
        KERNEL,
        "if (tensor().info.view != nullptr) { store_cross_block(",
        "if (tensor().info.view != nullptr && outcome != View::kLayer) { store_cross_block(",
    ),
    Mutation(
        "projected buffer not taken back",
        KERNEL,
        "update.previous = {h.decay_projected, channel.radial};",
        "update.previous = {channel.shrink, S(0)};",
    ),
    Mutation(
        "sign lost when finishing",
        SPANS,
        "kMomentsAndGradient) grad = g.get(j) * h.sign;",
        "kMomentsAndGradient) grad = g.get(j);",
    ),
    Mutation(
        "half of a warp not summed",
        SPANS,
        "sums = lane_sums(sums, kWarpSize);",
        "sums = lane_sums(sums, kWarpSize / 2);",
    ),
    Mutation(
        "half precision updated early",
        EARLY,
        "if (one_item || size_of(dtype) < 4) return Early::kNone;",
        "if (one_item) return Early::kNone;",
        all_types=True,
    ),
    # What was found by mutants.py, or would have been.
    Mutation(
        "a row's length in the layer's test",
        KERNEL,
        "const S numel = S(tensor().info.rows) * S(tensor().info.cols);",
        "const S numel = S(tensor().info.cols);",
    ),
    Mutation(
        "length of a piece in a row's test",
        KERNEL,
        "const int64_t pieces = tensor().item_count / tensor().info.rows; const S bound ="
        " cosine_bound(S(tensor().info.cols), memory.scalars);",
        "const int64_t pieces = tensor().item_count / tensor().info.rows; const S bound ="
        " cosine_bound(S(tensor().info.cols / pieces), memory.scalars);",
    ),
    Mutation("gradient's norm not clamped", FORMULAS, "(norm_g > eps ? norm_g : eps)", "norm_g"),
    Mutation(
        "weight against gradient always passes",
        FORMULAS,
        "return s.pg < limit && -s.pg < limit;",
        "return s.pg < limit;",
    ),
    Mutation(
        "zero gradient passes where delta is zero",
        FORMULAS,
        "return s.pg < limit && -s.pg < limit;",
        "return s.pg <= limit && -s.pg <= limit;",
    ),
    Mutation(
        "NaN passes",
        FORMULAS,
        "return s.pg < limit && -s.pg < limit;",
        "return !(s.pg >= limit) && !(-s.pg >= limit);",
    ),
    Mutation("delta taken for wd_ratio", FORMULAS, "S(decay * h.wd_ratio)", "S(decay * h.delta)"),
    Mutation(
        "plain update that cannot be undone",
        EARLY,
        "if (last == View::kNone && can_undo(plain_update(h)))",
        "if (last == View::kNone)",
    ),
    Mutation(
        "projected update that cannot be undone", EARLY, "(passes && can_undo(channel))", "passes"
    ),
    Mutation(
        "options by tensor, not by group",
        KERNEL,
        "hyper = state.launch.hypers[state.launch.hyper_indices[index]];",
        "hyper = state.launch.hypers[index];",
    ),
    Mutation(
        "a lane's last row decides what is pending",
        KERNEL,
        "pending += !updated;",
        "pending = !updated;",
    ),
    Mutation(
        "one finish ticket too many",
        HOST,
        "(added.count + kItemsPerFinish - 1) / kItemsPerFinish",
        "(added.count + kItemsPerFinish + 1) / kItemsPerFinish",
    ),
    Mutation("pending rows not reset", KERNEL, "store_cross_block(&decision().pending, 0u);", ""),
    Mutation(
        "finished though nothing was left",
        KERNEL,
        ": load_cross_block(&decision().pending) == 0;",
        ": false;",
    ),
    Mutation("all accesses narrow", SPANS, "if (!span.wide) {", "if (true) {"),
    Mutation(
        "partial sums added twice",
        SPANS,
        "col < cols; col += kBlockSize) { add_to",
        "col < cols; col += kBlockSize - 1) { add_to",
    ),
    Mutation(
        "rows joined in the first round only",
        KERNEL,
        "slot_sums((first + row) * pieces + i)",
        "slot_sums(row * pieces + i)",
        all_types=True,
    ),
    Mutation(
        "no barrier between rounds of joined rows",
        KERNEL,
        "} } sync_block(); } return",
        "} } } return",
        all_types=True,
    ),
    Mutation(
        "32-bit offset of records",
        KERNEL,
        "(state.launch.scratch + tensor().records)",
        "(state.launch.scratch + static_cast<int32_t>(tensor().records))",
    ),
    Mutation(
        "32-bit row index",
        KERNEL,
        "const RowRecord<S>& record = records()[item.row_begin + row];",
        "const RowRecord<S>& record = records()[static_cast<int32_t>(item.row_begin + row)];",
    ),
    Mutation(
        "32-bit scratch size", HOST, "int64_t scratch_bytes = 0;", "int32_t scratch_bytes = 0;"
    ),
    Mutation("32-bit count of columns", PLAN, "for (int64_t col = 0;", "for (int32_t col = 0;"),
    Mutation(
        "second moment's alignment ignored",
        HOST,
        "(info.moment2 == nullptr || boundary(info.param) == boundary(info.moment2))",
        "true",
    ),
    Mutation("values of an earlier step", HOST, "args_.step_values = nullptr;", ""),
    Mutation("empty plan launched", HOST, "if (args_.n_tickets == 0) return;", ""),
)
