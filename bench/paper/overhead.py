"""The cost of the projection in a training: the paper's figure is 8 % of its time."""

from __future__ import annotations

import functools
import statistics
import time
from typing import Any

import torch
from torch.nn import functional as F

from bench.paper import digits
from bench.paper.experiment import Case, Experiment, Gate, Record, Settings, Table
from bench.paper.optimizers import TITLES, build

PAIRS = {"sgd": "sgdp", "adamw": "adamp"}
LR = 1e-3
WIDTH, BATCH, WARM_UP = 32, 128, 5

PUBLISHED = 0.08


def measure(rounds: int, backend: str) -> Record:
    """Seconds of each iteration and of the step in it; the optimizers take turns."""
    images, labels, _, _ = digits.split()
    runs: dict[str, tuple[torch.nn.Module, torch.optim.Optimizer]] = {}
    for name in (*PAIRS, *PAIRS.values()):
        model: torch.nn.Module = digits.bn_network(0, WIDTH)
        # Torch's fused kernels: what a user in a hurry would compare with.
        fused: dict[str, Any] = {"fused": True} if name in PAIRS else {}
        runs[name] = model, build(name, model.parameters(), backend, LR, **fused)
    iteration: dict[str, list[float]] = {name: [] for name in runs}
    step: dict[str, list[float]] = {name: [] for name in runs}
    for index, batch in enumerate(digits.batches(len(images), rounds + WARM_UP, 0, BATCH)):
        for name, (model, optimizer) in runs.items():
            begin = time.perf_counter()
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
            computed = time.perf_counter()
            optimizer.step()
            end = time.perf_counter()
            if index >= WARM_UP:
                iteration[name].append(round(end - begin, 7))
                step[name].append(round(end - computed, 7))
    return {"threads": torch.get_num_threads(), "iteration_s": iteration, "step_s": step}


def cases(settings: Settings) -> list[Case]:
    """One training, all optimizers in it."""
    return [functools.partial(measure, 40 if settings.quick else 200, settings.backend)]


def gates(records: list[Record]) -> list[Gate]:
    """None: a time depends on the machine and on what else it does."""
    return []


def table(records: list[Record]) -> Table:
    """Median times, and what the projection adds to a training."""
    (record,) = records
    rows = [["", "iteration, ms", "step, ms", "training longer by", "paper"]]
    for plain, ours in PAIRS.items():
        for name in (plain, ours):
            whole = statistics.median(record["iteration_s"][name])
            part = statistics.median(record["step_s"][name])
            row = [TITLES[name], f"{1e3 * whole:.2f}", f"{1e3 * part:.3f}"]
            if name == ours:
                # The rest of an iteration is the same work: its noise would hide the difference.
                difference = part - statistics.median(record["step_s"][plain])
                row += [f"{difference / statistics.median(record['iteration_s'][plain]):+.1%}"]
                row += [f"+{PUBLISHED:.0%}"]
            else:
                row += ["", ""]
            rows.append(row)
    return rows


EXPERIMENT = Experiment(
    name="overhead",
    title="Cost in a training",
    section="the method's cost",
    statement="AdamP takes only 8 % more training time (ResNet18 on ImageNet).",
    setup=(
        f"the network of norm growth, twice as wide, batches of {BATCH}; torch's fused optimizers "
        "and this package's in turn, one iteration each. Added time is the difference of the "
        "median steps over the median iteration."
    ),
    mark="none: published, not gated, because a time depends on the machine",
    cases=cases,
    gates=gates,
    table=table,
    alone=True,
)
