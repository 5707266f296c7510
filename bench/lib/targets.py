"""Performance targets, and the measurements that they are judged by.

A target has cells, one for each workload, number of threads and outcome. The worst of them counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from bench.lib.bytes import one_pass
from bench.lib.implementations import ADAM, Skipped

CONTROL = "A/A control"
"""Name of the cells that hold the baseline against a second copy of itself."""


@dataclasses.dataclass(frozen=True)
class Target:
    """One row of the table.

    Attributes:
        group: targets that are measured together.
        name: of its cells, in the group.
        case: how the table shows it.
        baseline: what figures are a multiple of.
        limit: that figures may not exceed.
        noise: whether the noise of the run is allowed on top.
        least: whether figures may not be below the limit instead.
        gpu: the device it needs; None where it holds on every device.
    """

    group: str
    name: str
    case: str
    baseline: str
    limit: float
    noise: bool = False
    least: bool = False
    gpu: bool | None = False

    def applies_to(self, gpu: bool) -> bool:
        """Whether it can be measured with or without a GPU."""
        return self.gpu is None or self.gpu == gpu


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measurement for the target ``name`` of a group.

    Attributes:
        group: of the target.
        name: of the target in its group.
        workload: title.
        detail: outcome and number of threads, or the clock.
        unit: of ``ours`` and ``baseline``.
        ours: what was measured.
        baseline: the same of the baseline.
        figure: what the limit applies to.
        spread: half the interquartile range of the ratios of single rounds.
        rounds: measured steps.
        bandwidth: of the memory, in bytes per second, measured beside the cell.
    """

    group: str
    name: str
    workload: str
    detail: str
    unit: str
    ours: float
    baseline: float | None
    figure: float
    spread: float | None = None
    rounds: int | None = None
    bandwidth: float | None = None

    @classmethod
    def ratio(
        cls,
        group: str,
        name: str,
        where: tuple[str, str],
        ours: float,
        baseline: float,
        spread: float | None = None,
        rounds: int | None = None,
        bandwidth: float | None = None,
    ) -> Cell:
        """Two times in milliseconds of a workload and detail; the figure is their ratio."""
        times = ours, baseline, ours / baseline
        return cls(group, name, *where, "ms", *times, spread, rounds, bandwidth)

    @property
    def threads(self) -> str:
        """The number of threads in words, where the detail names it."""
        last = self.detail.split(", ")[-1]
        return last if last.endswith(("thread", "threads")) else ""


Found = Iterator[Cell | Skipped]


OUTCOME_CASES = {
    "natural": "as in training",
    "projected": "all channel-wise",
    "unprojected": "none projected",
    "alternating": "channel-wise and none in turn",
    "mixed": "layer-wise, channel-wise, none in turn",
}


def _outcomes(group: str, title: str, baseline: str) -> list[Target]:
    return [
        Target(group, outcome, f"{title}, {case}", baseline, 1.0, noise=True)
        for outcome, case in OUTCOME_CASES.items()
    ] + [
        Target(group, option, f'{title}, projection="{option}"', '"auto"', 1.0, noise=True)
        for option in ("channel", "off")
    ]


def _gpu_outcomes(family: str, title: str, baseline: str, limit: float) -> list[Target]:
    rows = [
        (outcome, OUTCOME_CASES[outcome], baseline, limit)
        for outcome in ("projected", "unprojected", "mixed")
    ]
    rows += [(kind, f'projection="{kind}"', '"auto"', 1.0) for kind in ("channel", "off")]
    return [
        Target(
            *("outcomes", f"{family}, {name}", f"{title}, {case}, kernel time", to, most),
            noise=True,
            gpu=True,
        )
        for name, case, to, most in rows
    ]


def _stack(group: str, title: str, theirs: str, gpu: bool) -> list[Target]:
    """What stands around a step, on ResNet-50 and GPT-2."""
    most = {"scaled": 0.90, "clipped": 0.80} if gpu else {"scaled": 0.95, "clipped": 0.85}
    rows = [
        ("scaled", "GradScaler, no infinite gradient", f"{theirs}, GradScaler", most["scaled"]),
        ("skipped", "GradScaler, a step that is skipped", "a step that is made", 0.10),
        ("clipped", "max_grad_norm", f"clip_grad_norm_ + {theirs}", most["clipped"]),
        ("compiled", "torch.compile", "a plain step", 1.0),
        ("measured", "statistics", "a plain step", 1.02),
    ]
    if gpu:
        rows.append(("replayed", "CUDA graph", "a plain step", 1.02))
    clock = ", kernel time" if gpu else ""
    return [
        Target(group, name, f"{title}, {case}{clock}", to, limit, name == "compiled", gpu=gpu)
        for name, case, to, limit in rows
    ]


BYTES = f"ResNet-50, {4 * one_pass(ADAM.states).total} N / kernel time"

TARGETS: tuple[Target, ...] = (
    *_outcomes("adamp", "AdamP", "AdamW fused"),
    *_outcomes("sgdp", "SGDP", "SGD fused"),
    *_stack("adamp-stack", "AdamP", "AdamW fused", gpu=False),
    *_stack("sgdp-stack", "SGDP", "SGD fused", gpu=False),
    Target("small", "step", "AdamP, 1,000 tensors of 16 x 16", "AdamW fused", 0.15),
    Target("cached", "step", "AdamP, 512 x 512 in cache", "AdamW fused", 1.05),
    Target("busy", "step", "AdamP, ResNet-50, one of 2 cores busy", "AdamW fused", 0.60),
    Target("official", "step", "AdamP, ResNet-18", "adamp 0.3.0", 1 / 20),
    Target("adversary", "step", "AdamP, always mispredicted", "two passes", 1.6),
    Target("gpu", "wall", "AdamP, ResNet-50 and ViT-B/16, wall", "AdamW fused", 0.60, gpu=True),
    Target("gpu", "kernel", "AdamP, ResNet-50, kernel time", "AdamW fused", 0.95, gpu=True),
    Target("gpu", "large", "AdamP, GPT-2 and Llama, kernel time", "AdamW fused", 1.02, gpu=True),
    Target("gpu", "sgdp", "SGDP, all of these", "SGD fused", 1.0, noise=True, gpu=True),
    Target("gpu", "bandwidth", BYTES, "memcpy bandwidth", 0.85, least=True, gpu=True),
    Target("gpu", "host", "ResNet-50, host time of step()", "AdamW fused", 0.15, gpu=True),
    Target("gpu", "official", "AdamP, ResNet-50, wall", "adamp 0.3.0", 1 / 80, gpu=True),
    Target("gpu", "launches", "launches a step", "-", 1, gpu=True),
    Target("gpu", "waits", "host synchronisations a step", "-", 0, gpu=True),
    *_stack("adamp-gpu-stack", "AdamP", "AdamW fused", gpu=True),
    *_stack("sgdp-gpu-stack", "SGDP", "SGD fused", gpu=True),
    *_gpu_outcomes("adam", "AdamP", "AdamW fused", 1.02),
    *_gpu_outcomes("sgd", "SGDP", "SGD fused", 1.0),
    Target("memory", "beyond", "memory beyond AdamW's state", "AdamW's state", 0.01, gpu=None),
)

GROUPS = tuple(dict.fromkeys(target.group for target in TARGETS))
