"""The tables of sharded steps: measured on two processes, and counted for many."""

from __future__ import annotations

import math
from typing import Any

from bench.lib import sharding_scale
from bench.lib.report import markdown

Report = dict[str, Any]

#: Assumed, for what no machine here can measure: bytes per second of a GPU's memory, and seconds of
#: one hop of an all-reduce, which takes two for each doubling of the processes.
BANDWIDTH, HOP = 2.8e12, 6e-6
ADAMW_BYTES = 28  # per element, in float32


def sharding_block(report: Report | None) -> str:
    """Steps of DTensors, as measured."""
    if report is None:
        return markdown.NOT_MEASURED
    header = ["", "AdamW(fused) on DTensors", "ours", "ratio", "ours, plain tensors", "collectives"]
    rows = []
    for row in report["rows"]:
        times = [
            "-" if row[key] is None else f"{row[key]:,.2f} ms"
            for key in ("baseline_ms", "ours_ms", "plain_ms")
        ]
        ratio = "-" if row["ratio"] is None else f"**{row['ratio']:.2f}**"
        sent = f"{row['collectives']} of {row['collective_bytes']:,} bytes"
        title = f"{row['workload']} ({row['tensors']:,} tensors)"
        rows.append([title, times[0], times[1], ratio, times[2], sent])
    settings = report["settings"]
    notes = (
        f"{markdown.machine(report['machine'])} {settings['processes']} processes of one thread "
        f"joined by gloo, each with half the rows; medians of {settings['rounds']} alternating "
        "rounds. A step's collectives are part of its time. AdamW on 21,000 DTensors is left out: "
        "its first step takes 0.4 s with 150 of them, 3.1 s with 600."
    )
    return markdown.table(header, rows) + "\n\n" + notes


def _gpus(scale: sharding_scale.Scale) -> str:
    return f"{scale.processes:,} ({scale.tensor_parallel})"


def _hops(scale: sharding_scale.Scale) -> float:
    """Hops of all all-reduces of a step, which follow one another."""
    over = scale.processes // scale.tensor_parallel
    return sum(2 * math.log2(n) for n in (scale.tensor_parallel, over))


def scale_block() -> str:
    """What a step sends, counted; and apart from it, times under the assumptions above."""
    counted, computed = [], []
    for scale in sharding_scale.count():
        sent = [f"{size / 1024:,.0f} KiB" for size in scale.sent]
        if scale.tensor_parallel == 1:
            sent = ["-", *sent]
        counted.append([scale.model, _gpus(scale), f"{scale.tensors:,}", *sent])
        collectives, adamw = _hops(scale) * HOP, scale.elements * ADAMW_BYTES / BANDWIDTH
        times = [f"{seconds * 1e3:,.2f} ms" for seconds in (collectives, adamw)]
        computed.append([scale.model, _gpus(scale), *times])
    header = ["model", "GPUs (TP)", "tensors", "sent over TP", "over FSDP2"]
    assumed = (
        f"No measurements, but what follows from {BANDWIDTH / 1e12:.1f} TB/s, AdamW's "
        f"{ADAMW_BYTES} bytes per element, and {HOP * 1e6:.0f} us for each of the 2 log2(n) hops "
        "of an all-reduce over n processes:"
    )
    return "\n\n".join(
        [
            markdown.table(header, counted),
            "Counted by the code that sends them, for each process and step.",
            assumed,
            markdown.table(["model", "GPUs (TP)", "collectives", "AdamW's pass"], computed),
        ]
    )
