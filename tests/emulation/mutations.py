"""Planted faults: each is one edit of the device code or of its tables that must be noticed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from emulation import build


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
        "span.wide = tensor.wide != 0 && (p - reinterpret_cast<uintptr_t>(span.g)) % 16 == 0 &&",
        "span.wide = tensor.wide != 0 &&",
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
        "note_outcome(outcome); RowRecord<S>& whole = records()[tensor.info.rows];",
        "note_outcome(outcome); RowRecord<S>& whole = records()[tensor.info.rows - 1];",
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
        "fetch_add_acq_rel(&decision.arrived, 1)",
        "fetch_add_relaxed(&decision.arrived, 1)",
    ),
    Mutation(
        "decision stored without release",
        KERNEL,
        "store_release(&decision.decided, settled ? kSettled : kToFinish);",
        "store_cross_block(&decision.decided, uint32_t{settled ? kSettled : kToFinish});",
    ),
    Mutation(
        "relaxed end of finishing",
        KERNEL,
        "fetch_add_acq_rel(&decision.finished, 1)",
        "fetch_add_relaxed(&decision.finished, 1)",
    ),
    # The protocol.
    Mutation(
        "decides one item early",
        KERNEL,
        "+ 1 == tensor.item_count;",
        "+ 2 == tensor.item_count;",
    ),
    Mutation(
        "finishes before the decision",
        KERNEL,
        "while (decided == kUndecided) {",
        "while (false) {",
    ),
    Mutation("failed rows not reset", KERNEL, "store_cross_block(&decision.failed, 0u);", ""),
    Mutation("finish tickets not reset", KERNEL, "store_cross_block(&decision.finished, 0u);", ""),
    Mutation(
        "decision not reset",
        KERNEL,
        "store_cross_block(&decision.decided, static_cast<uint32_t>(kUndecided));",
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
        "if (tensor.info.view != nullptr) { store_cross_block(",
        "if (tensor.info.view != nullptr && outcome != View::kLayer) { store_cross_block(",
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
        "for (int j = 0; j < kCount; ++j) g.lane[j] *= h.sign;",
        "",
    ),
    Mutation(
        "half of a warp not summed",
        SPANS,
        "sums = lane_sums(sums, kWarpSize);",
        "sums = lane_sums(sums, kWarpSize / 2);",
    ),
    Mutation(
        "half precision updated early",
        "early.h",
        "if (one_item || size_of(dtype) < 4) return Early::kNone;",
        "if (one_item) return Early::kNone;",
        all_types=True,
    ),
)


def caught(mutation: Mutation, folder: Path, schedules: int = 300) -> str:
    """Build the driver with the fault and run it; what it says is wrong, or "" if nothing is.

    Args:
        mutation: the fault.
        folder: an empty one, for a copy of the sources.
        schedules: at most so many are tried.
    """
    text = mutation.apply((build.ROOT / "csrc" / mutation.file).read_text())
    variant = build.RACES if mutation.all_types else build.RACES_FLOAT
    return verdict(mutation.file, text, variant, folder, schedules)


def verdict(file: str, text: str, variant: build.Variant, folder: Path, schedules: int) -> str:
    """Build the driver from a copy of the sources and run it; what it says is wrong, or "".

    Args:
        file: in csrc, the one that differs.
        text: its contents.
        variant: how the driver is compiled.
        folder: for the copy; the one of an earlier verdict does, if that changed the same file.
        schedules: at most so many are tried.
    """
    for name in ("csrc", "tests/emulation"):
        if not (folder / name).exists():
            ignored = shutil.ignore_patterns("__pycache__", "*.py")
            shutil.copytree(build.ROOT / name, folder / name, ignore=ignored)
    path = folder / "csrc" / file
    path.write_text(text)
    program = build.driver(variant, path)
    # Seconds and KiB: a fault may be a loop without an end, one that allocates even.
    limited = ["sh", "-c", 'ulimit -t 40 && ulimit -d 2000000 && exec "$@"', "sh", str(program)]
    done = subprocess.run([*limited, "--schedules", str(schedules)], capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    return done.stdout.splitlines()[-1] if done.returncode == 1 else f"status {done.returncode}"
