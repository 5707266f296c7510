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


def scale_block() -> str:
    """What a step sends, counted; and times that follow from it under the assumptions above."""
    header = [
        "model",
        "GPUs (TP)",
        "tensors",
        "AdamP sends over TP",
        "over FSDP2",
        "collectives, computed",
        "AdamW's pass, computed",
    ]
    rows = []
    for scale in sharding_scale.count():
        over = scale.processes // scale.tensor_parallel
        sizes = [scale.tensor_parallel, over] if scale.tensor_parallel > 1 else [over]
        hops = sum(2 * math.log2(n) * HOP for n in sizes)
        sent = [f"{size / 1024:,.0f} KiB" for size in scale.sent]
        if scale.tensor_parallel == 1:
            sent = ["-", *sent]
        adamw = scale.elements * ADAMW_BYTES / BANDWIDTH
        rows.append(
            [
                scale.model,
                f"{scale.processes:,} ({scale.tensor_parallel})",
                f"{scale.tensors:,}",
                *sent,
                f"{hops * 1e3:.2f} ms",
                f"{adamw * 1e3:,.2f} ms",
            ]
        )
    notes = (
        "Bytes are counted by the code that sends them. The times are no measurements: AdamW's "
        f"{ADAMW_BYTES} bytes per element at {BANDWIDTH / 1e12:.1f} TB/s, and {HOP * 1e6:.0f} us "
        "for each of the 2 log2(n) hops of an all-reduce over n processes."
    )
    return markdown.table(header, rows) + "\n\n" + notes
