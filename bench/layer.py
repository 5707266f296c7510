"""``python -m bench layer``: one layer under AdamW and under AdamP, for the README's picture.

The network is that of the paper's experiments: three convolutions with BatchNorm on scikit-learn's
digits. Its middle convolution is recorded in every step by ``adamp_fused.stats.StatsWriter``.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from adamp_fused import FusedAdamP
from adamp_fused.stats import StatsWriter, read
from bench.lib import machine
from bench.lib.report import files, plots
from bench.paper import digits

LAYER = "3.weight"
STEPS = 1000
LR = 0.01
SMOOTHING = 0.1
"""Of labels: so that gradients do not vanish with the loss."""

KEYS = ("effective_lr", "growth")
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "AdamW": lambda params: torch.optim.AdamW(params, lr=LR, weight_decay=0.0, fused=True),
    "AdamP": lambda params: FusedAdamP(params, lr=LR, stats=True),
}


@dataclasses.dataclass
class Report:
    """Of each optimizer the numbers of the layer after each step."""

    machine: dict[str, Any]
    layer: str
    lr: float
    curves: dict[str, dict[str, list[float]]]


def train(make: Callable[[Any], Any], path: Path, steps: int) -> dict[str, list[float]]:
    """Train once, recorded in ``path``; the numbers of the layer after each step."""
    images, labels, *_ = digits.split()
    model = digits.bn_network(0)
    optimizer = make(model.named_parameters())
    with StatsWriter(optimizer, path, every=1):
        for chosen in digits.batches(len(images), steps, seed=0):
            optimizer.zero_grad()
            logits = model(images[chosen])
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=SMOOTHING)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    records = [stats[LAYER] for stats in read(path).records.values()]
    return {key: [record[key] for record in records] for key in KEYS}


def draw(report: dict[str, Any], path: Path) -> None:
    """Effective learning rate and weight norm over steps."""
    if not plots.available(path):
        return
    figure, (left, right) = plots.new(1, 2, 7.2, 2.5)
    for name, curves in report["curves"].items():
        colour = plots.OURS if name == "AdamP" else plots.THEIRS[0]
        steps = range(1, len(curves["growth"]) + 1)
        left.plot(steps, curves["effective_lr"], color=colour, linewidth=0.9, label=name)
        right.plot(steps, curves["growth"], color=colour, linewidth=1.8, label=name)
    left.set_yscale("log")
    left.set_title("effective learning rate")
    right.set_title("weight norm, times the first")
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
    figure.supxlabel(
        f"a convolution before BatchNorm, digits, lr {report['lr']:g} throughout, no weight decay",
        fontsize=8,
    )
    plots.save(figure, path)


def run(folder: Path, steps: int = STEPS) -> Report:
    """Train with each optimizer, from the same weights and on the same batches."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as records:
        curves = {
            name: train(make, Path(records) / f"{name}.jsonl", steps)
            for name, make in OPTIMIZERS.items()
        }
    report = Report(machine.describe(torch.device("cpu")), LAYER, LR, curves)
    files.write(folder / "layer.json", report)
    return report
