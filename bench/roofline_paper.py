"""``python -m bench roofline``: writes ROOFLINE.md, what is to be expected of large GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import console, markdown
from bench.contenders import ADAM, FAMILIES, Family
from bench.roofline import (
    CHUNK,
    DECISION,
    GPUS,
    HOST_OURS,
    HOST_OURS_PER_TENSOR,
    HOST_PER_LAUNCH,
    HOST_PER_TENSOR,
    L2_SPEED,
    MISS,
    MOST_CHUNKS,
    MOST_TENSORS,
    RAMP,
    Gpu,
    count_launches,
    on_chip_share,
    predict,
    resident_bytes,
    step_bytes,
    step_launches,
)
from bench.workloads import WORKLOADS, Workload

PAPER = Path(__file__).parent / "ROOFLINE.md"

TEXT = """# What to expect of an H100 or H200

**A calculation, not a measurement.** `python -m bench roofline` writes this file from the
formulas and the assumptions in `bench/roofline.py`; nothing here was run on a GPU. It is there so
that the first run on one (`python -m bench price`) can be judged against a prediction.

## Assumed

{assumed}

## What a step must move

float32: p, g and the states are read, p and the states written, 28 bytes a parameter with two
states, 20 with one. *In L2*: what an AdamP step touches stays in the L2 from one step to the
next. *On chip*: share of the matrices' parameters whose matrix, as p and u, fits in the shared
memory of all processors, so that it could wait there for its decision. *Else*: extra traffic if
the others were decided first and read again (8 bytes each), as a share of the step's. Foreseeing
the outcome moves none of these bytes; that is what the kernels do in float32.

{sizes}

## What it should take

- *bound* = bytes / rate, the rate being the copy's, or the L2's where all fits there.
- *AdamW* or *SGD* = bound + launches x fill and drain.
- *ours* = bound + what was foreseen wrongly, read again and p written again, + one fill and drain
  + tickets and decision.
- *of copy rate* = bytes / ours / copy rate; above 100 % where the L2 serves.
- *wall ratio*: until all is done, from an idle device. Theirs: the longer of the host's time, and
  of its time before the first launch plus the kernels. Ours: host, then the kernel.

{tables}

## How to judge a run

A kernel ratio above the prediction by more than 0.03, at a share of the copy rate below it, means
lost bandwidth: look at loads of 4 bytes instead of 16, at occupancy, at bytes read twice. A right
share with a wrong ratio means that the assumption about AdamW is off. A wall ratio that is off
while kernels agree is host time: compare `host ms` with the assumptions above. Where several rows
are off by one factor, the copy rate is; it is measured in the same run.

The calculation leaves out what an item costs besides its bytes: barriers, row sums, latencies. Its
bytes alone take 15.1 µs on an H100 with two blocks a processor (6,144 elements). Counted in the
machine code one of 4,608 took 11 to 13 µs before a block's last warp fetched the next: its tables,
three accesses one behind the other (2 to 3 µs), and its arrays into the second-level cache, whose
latency four rounds of loads then see instead of the memory's (2 µs). With 6 to 8 µs an item the
memory should always have something to do; without, ResNet-50 would come out at 80 to 92 % of the
copy rate. `make gpu-tune` times both.
"""


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}" if seconds >= 1e-5 else f"{seconds * 1e6:.1f}"


def _sizes(workloads: Sequence[Workload], gpu: Gpu) -> str:
    lines = []
    for workload in workloads:
        touched = resident_bytes(workload.numel, ADAM)
        share = on_chip_share(workload, gpu)
        extra = (1 - share) * workload.numel * 8
        lines.append(
            [workload.title, f"{len(workload.weights):,}", f"{workload.numel:,}"]
            + [f"{step_bytes(workload.numel, family) / 1e6:,.1f}" for family in FAMILIES]
            + [f"{touched / 1e6:,.1f}", "yes" if touched <= gpu.l2_bytes else "no"]
            + [f"{share:.0%}", f"{extra / step_bytes(workload.numel, ADAM):.0%}"]
        )
    header = ["workload", "tensors", "parameters", "AdamP MB", "SGDP MB", "p, g, m, v MB", "in L2"]
    return markdown.table([*header, "on chip", "else"], lines)


def _times(workloads: Sequence[Workload], family: Family, gpu: Gpu) -> str:
    theirs = "AdamW" if family is ADAM else "SGD"
    header = [f"{gpu.name}, {family.title}", "bound µs", f"{theirs} launches", f"{theirs} µs"]
    header += ["ours µs", "kernel ratio", "of copy rate", "wall ratio"]
    lines = []
    for workload in workloads:
        said = predict(workload, family, gpu)
        launches = step_launches(workload, family) + count_launches(workload, family)
        share = step_bytes(workload.numel, family) / said.ours / gpu.copy_rate
        line = [workload.title, _micro(said.bound), str(launches), _micro(said.anchor)]
        line += [_micro(said.ours), f"{said.ours / said.anchor:.2f}", f"{share:.0%}"]
        lines.append([*line, f"{said.ours_wall / said.anchor_wall:.2f}"])
    return markdown.table(header, lines)


def paper() -> str:
    """The whole text."""
    workloads = [build() for build in WORKLOADS.values()]
    gpu = GPUS[0]
    tables = [_times(workloads, family, gpu) for gpu in GPUS for family in FAMILIES]
    assumed = [
        *(f"{g.name}: a large copy moves {g.copy_rate / 1e12:.1f} TB/s" for g in GPUS),
        f"the L2 holds {gpu.l2_bytes / 1e6:.0f} MB and is {L2_SPEED:g} times as fast (a GH200 "
        "has 60 MB, which decides no row below)",
        f"{gpu.processors} processors of {gpu.shared_bytes // 1024} KiB shared memory: "
        f"{gpu.on_chip / 2**20:.1f} MiB, p and u of {gpu.on_chip / 8e6:.1f} M parameters",
        f"a kernel fills and drains the GPU in {RAMP * 1e6:g} µs; tickets and the last decision "
        f"take {DECISION * 1e6:g} µs",
        f"one launch of torch's fused optimizers takes {MOST_TENSORS['adam']} tensors (SGD "
        f"{MOST_TENSORS['sgd']}) and {MOST_CHUNKS} chunks of {CHUNK:,} elements, as its source "
        "says; AdamW adds a launch per 110 tensors that counts steps",
        f"torch's host time: {HOST_PER_TENSOR * 1e6:g} µs a tensor and {HOST_PER_LAUNCH * 1e6:g} "
        f"µs a launch; ours: {HOST_OURS * 1e6:g} µs, {HOST_OURS_PER_TENSOR * 1e6:g} µs a tensor "
        "and one launch",
        f"{MISS:.0%} of the matrices without BatchNorm are decided otherwise than foreseen",
    ]
    return TEXT.format(
        assumed="\n".join(f"- {line}" for line in assumed),
        sizes=_sizes(workloads, gpu),
        tables="\n\n".join(tables),
    )


def run() -> int:
    """Write the paper; an exit status."""
    PAPER.write_text(paper(), encoding="utf-8")
    console.say(f"written: {PAPER}")
    return 0
