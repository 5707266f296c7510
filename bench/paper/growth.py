"""Norm growth and effective step of a BatchNorm network, over momentum."""

from __future__ import annotations

import functools
import itertools

from bench.paper import classifier
from bench.paper.experiment import (
    Case,
    Experiment,
    Gate,
    Record,
    Settings,
    Table,
    mean,
    mean_and_deviation,
    values,
)
from bench.paper.optimizers import TITLES

MOMENTA = (0.0, 0.5, 0.9, 0.99)
USUAL = 0.9
FAMILIES = {"sgd": "sgdp", "adamw": "adamp"}
LR = {"sgd": 0.02, "sgdp": 0.02, "adamw": 3e-3, "adamp": 3e-3}

GROWTH_MARK = 4.0


def cases(settings: Settings) -> list[Case]:
    """Every optimizer, momentum and seed, without weight decay."""
    steps = 60 if settings.quick else 120
    train, backend = classifier.train, settings.backend
    return [
        functools.partial(train, optimizer, LR[optimizer], momentum, 0.0, seed, steps, backend)
        for seed in (settings.seeds[:2] if settings.quick else settings.seeds)
        for momentum in MOMENTA
        for optimizer in LR
    ]


def _gaps(records: list[Record], plain: str, projected: str) -> list[float]:
    """By how much more norms grow without the projection, for each momentum."""
    return [
        mean(records, "growth", optimizer=plain, momentum=momentum)
        - mean(records, "growth", optimizer=projected, momentum=momentum)
        for momentum in MOMENTA
    ]


def _ratio(records: list[Record], key: str, first: str, second: str, momentum: float) -> float:
    upper = mean(records, key, optimizer=first, momentum=momentum)
    return upper / mean(records, key, optimizer=second, momentum=momentum)


def gates(records: list[Record]) -> list[Gate]:
    """Growth and effective step with the usual momentum, and the gap from one to the next."""
    found = []
    for plain, projected in FAMILIES.items():
        pair = f"{TITLES[plain]} over {TITLES[projected]}"
        ratio = _ratio(records, "growth", plain, projected, USUAL)
        found.append(Gate(f"norm growth, {pair}, β = {USUAL}", ratio, ">", GROWTH_MARK))
        step = _ratio(records, "effective_step", projected, plain, USUAL)
        pair = f"{TITLES[projected]} over {TITLES[plain]}"
        found.append(Gate(f"effective step, {pair}, β = {USUAL}", step, ">", 1.0))
        gaps = _gaps(records, plain, projected)
        least = min(after - before for before, after in itertools.pairwise(gaps))
        what = f"gap of growth to {TITLES[projected]}, smallest increase from one β to the next"
        found.append(Gate(what, least, ">", 0.0))
    return found


def table(records: list[Record]) -> Table:
    """Each optimizer and momentum."""
    header = ["", "β", "norm growth, %", "ratio", "mean effective step", "ratio"]
    rows = [[*header, "test accuracy, %"]]
    for plain, projected in FAMILIES.items():
        for momentum in MOMENTA:
            growth = _ratio(records, "growth", plain, projected, momentum)
            step = _ratio(records, "effective_step", plain, projected, momentum)
            for optimizer in (plain, projected):
                case = {"optimizer": optimizer, "momentum": momentum}
                is_plain = optimizer == plain
                rows.append(
                    [
                        TITLES[optimizer],
                        f"{momentum:g}",
                        mean_and_deviation(values(records, "growth", **case), 2, 100),
                        f"{growth:.1f}" if is_plain else "1",
                        f"{mean(records, 'effective_step', **case):.4f}",
                        f"{step:.2f}" if is_plain else "1",
                        mean_and_deviation(values(records, "accuracy", **case), 1, 100),
                    ]
                )
    return rows


EXPERIMENT = Experiment(
    name="growth",
    title="Norm growth and effective step of a BatchNorm network",
    section="section 2, Corollary 2.3",
    statement=(
        "Momentum makes the norm of scale-invariant weights grow faster, which shrinks the "
        "effective step too early; the projection prevents both, and the larger the momentum, "
        "the more it does."
    ),
    setup=(
        "three convolutions with BatchNorm on scikit-learn's digits, learning rate "
        f"{LR['sgd']:g} (SGD) and {LR['adamw']:g} (Adam) for every β, no weight decay. Growth is "
        "|w|/|w0| - 1 of all convolutions, the effective step |w'/|w'| - w/|w|| of a channel."
    ),
    mark=(
        "growth SGD over SGDP and AdamW over AdamP above 4, effective step larger (β = 0.9), "
        "gap of growth larger with every β"
    ),
    cases=cases,
    gates=gates,
    table=table,
    picture=("paper-growth.png", "Norm growth and effective step over momentum"),
)
