"""The rows of the price table: what a step may cost at most, and the verdict on what was measured.

A row's cells are single measurements, one for each workload, number of threads and outcome. The
worst of them counts.
"""

from __future__ import annotations

import dataclasses

NOISE_AT_MOST = 0.03
"""A run that is noisier than this gets no more allowance for it."""

FIVE = ("resnet18", "resnet50", "vit-b16", "gpt2-124m", "4096x4096")
"""The workloads of the table's first rows."""

AGAIN = "again"
"""Name, in place of a row's, of the cells that hold the anchor against a second copy of itself."""


@dataclasses.dataclass(frozen=True)
class Target:
    """One row of the table.

    ``least`` turns the limit round. ``noise``: whether a run's own noise is allowed on top.
    ``gpu``: None where the row holds on every device.
    """

    group: str
    name: str
    case: str
    anchor: str
    limit: float
    noise: bool = False
    least: bool = False
    gpu: bool | None = False


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measurement for the row ``name``: two figures in ``unit``, and what the limit is for.

    spread: half the interquartile range of the ratios of single rounds.
    """

    group: str
    name: str
    workload: str
    detail: str
    unit: str
    ours: float
    anchor: float | None
    figure: float
    spread: float | None = None
    rounds: int | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A row with the worst figure found, where that was, and the noise allowed.

    by_threads: the worst for each number of threads, where the cells name one.
    """

    case: str
    anchor: str
    limit: float
    least: bool
    worst: float | None
    where: str
    noise: float | None
    verdict: str
    by_threads: dict[str, float] = dataclasses.field(default_factory=dict)


OUTCOME_CASES = {
    "natural": "as in training",
    "projected": "all by channel",
    "unprojected": "none projected",
    "alternating": "channel and none in turn",
    "mixed": "layer, channel, none in turn",
}


def _outcomes(group: str, title: str, anchor: str) -> list[Target]:
    return [
        Target(group, outcome, f"{title}, {said}", anchor, 1.0, noise=True)
        for outcome, said in OUTCOME_CASES.items()
    ] + [
        Target(group, option, f'{title}, projection="{option}"', '"auto"', 1.0, noise=True)
        for option in ("channel", "off")
    ]


def _gpu_outcomes(family: str, title: str, anchor: str, limit: float) -> list[Target]:
    rows = [
        (outcome, OUTCOME_CASES[outcome], anchor, limit)
        for outcome in ("projected", "unprojected", "mixed")
    ]
    rows += [(kind, f'projection="{kind}"', '"auto"', 1.0) for kind in ("channel", "off")]
    return [
        Target(
            *("outcomes", f"{family}, {name}", f"{title}, {said}, kernel time", to, most),
            noise=True,
            gpu=True,
        )
        for name, said, to, most in rows
    ]


TARGETS: tuple[Target, ...] = (
    *_outcomes("adamp", "AdamP", "AdamW fused"),
    *_outcomes("sgdp", "SGDP", "SGD fused"),
    Target("small", "step", "AdamP, 1,000 tensors of 16 x 16", "AdamW fused", 0.15),
    Target("cached", "step", "AdamP, 512 x 512 in cache", "AdamW fused", 1.05),
    Target("busy", "step", "AdamP, ResNet-50, one of 2 cores busy", "AdamW fused", 0.60),
    Target("official", "step", "AdamP, ResNet-18", "adamp 0.3.0", 1 / 20),
    Target("adversary", "step", "AdamP, always foreseen wrongly", "two visits", 1.6),
    Target("gpu", "wall", "AdamP, ResNet-50 and ViT-B/16, wall", "AdamW fused", 0.60, gpu=True),
    Target("gpu", "kernel", "AdamP, ResNet-50, kernel time", "AdamW fused", 0.95, gpu=True),
    Target("gpu", "large", "AdamP, GPT-2 and Llama, kernel time", "AdamW fused", 1.02, gpu=True),
    Target("gpu", "sgdp", "SGDP, all of these", "SGD fused", 1.0, noise=True, gpu=True),
    Target("gpu", "rate", "ResNet-50, 28 N / kernel time", "copy rate", 0.85, least=True, gpu=True),
    Target("gpu", "host", "ResNet-50, host time of step()", "AdamW fused", 0.15, gpu=True),
    Target("gpu", "official", "AdamP, ResNet-50, wall", "adamp 0.3.0", 1 / 80, gpu=True),
    Target("gpu", "launches", "launches a step", "-", 1, gpu=True),
    Target("gpu", "waits", "host synchronisations a step", "-", 0, gpu=True),
    *_gpu_outcomes("adam", "AdamP", "AdamW fused", 1.02),
    *_gpu_outcomes("sgd", "SGDP", "SGD fused", 1.0),
    Target("memory", "beyond", "memory beyond AdamW's state", "AdamW's state", 0.01, gpu=None),
)

GROUPS = tuple(dict.fromkeys(target.group for target in TARGETS))


def allowance(cells: list[Cell], group: str) -> float | None:
    """How far an anchor came out from its own second copy at worst; None where none was timed."""
    found = [abs(c.figure - 1) for c in cells if c.group == group and c.name == AGAIN]
    return max(found, default=None)


def _threads(cell: Cell) -> str:
    """The number of threads that a cell names, in its words, or nothing."""
    last = cell.detail.split(", ")[-1]
    return last if last.endswith(("thread", "threads")) else ""


def judge(target: Target, cells: list[Cell], missing: str) -> Verdict:
    """The verdict on one row: "met", "missed", or ``missing`` where it has no cells."""
    own = [c for c in cells if (c.group, c.name) == (target.group, target.name)]
    noise = allowance(cells, target.group)
    if not own:
        return Verdict(
            target.case, target.anchor, target.limit, target.least, None, "", None, missing
        )
    worst_of = min if target.least else max
    worst = worst_of(own, key=lambda cell: cell.figure)
    counts = sorted({_threads(cell) for cell in own} - {""})
    by_threads = {
        count: worst_of(cell.figure for cell in own if _threads(cell) == count) for count in counts
    }
    allowed = min(noise or 0.0, NOISE_AT_MOST) if target.noise else 0.0
    if target.least:
        met = worst.figure >= target.limit - allowed
    else:
        met = worst.figure <= target.limit + allowed
    # What the row's own name says already is not said again.
    parts = [worst.workload, *worst.detail.split(", ")]
    where = ", ".join(part for part in parts if part not in ("", target.name))
    said = "met" if met else "missed"
    return Verdict(
        *(target.case, target.anchor, target.limit, target.least),
        *(worst.figure, where, noise if target.noise else None, said),
        by_threads=by_threads,
    )
