"""The optimizers that are compared, each built for a given list of parameters."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import SGD, AdamW, Optimizer

from adamp_fused import FusedAdamP, FusedSGDP
from adamp_fused.backends.registry import BACKENDS, choose, usable_by_default
from bench.lib.gradients import LEARNING_RATE

WEIGHT_DECAY = 0.01
MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Family:
    """Optimizers with the same state, which move the same bytes."""

    name: str
    title: str
    baseline: str
    states: int


ADAM = Family("adam", "AdamP", baseline="torch-adamw-fused", states=2)
SGD_ = Family("sgd", "SGDP", baseline="torch-sgd-fused", states=1)
FAMILIES = (ADAM, SGD_)


@dataclasses.dataclass(frozen=True)
class Implementation:
    """One optimizer to time.

    Attributes:
        key: its name on the command line.
        label: its name in tables.
        family: of optimizers with the same state.
        build: makes the optimizer of a list of parameters; may be given other options.
        ours: whether it is this package's.
    """

    key: str
    label: str
    family: Family
    build: Callable[..., Optimizer]
    ours: bool = False

    @property
    def is_baseline(self) -> bool:
        """Whether ratios refer to it."""
        return self.key == self.family.baseline


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Something that was not measured, and why."""

    name: str
    reason: str


def _build(optimizer: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    defaults = {"lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY, **options}
    return lambda params, **changed: optimizer(params, **{**defaults, **changed})


def _sgd(optimizer: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    return _build(optimizer, momentum=MOMENTUM, **options)


def _torch() -> list[Implementation]:
    """The optimizers of torch."""
    adamw = {"fused": {"fused": True}, "foreach": {"foreach": True}, "for-loop": {"foreach": False}}
    found = [
        Implementation(f"torch-adamw-{how}", f"torch AdamW ({how})", ADAM, _build(AdamW, **options))
        for how, options in adamw.items()
    ]
    return [
        *found,
        Implementation("torch-sgd-fused", "torch SGD (fused)", SGD_, _sgd(SGD, fused=True)),
    ]


def official() -> tuple[list[Implementation], list[Skipped]]:
    """The authors' own optimizers."""
    if importlib.util.find_spec("adamp") is None:
        return [], [Skipped("adamp", "not installed (pip install adamp==0.3.0)")]
    adamp = importlib.import_module("adamp")
    return [
        Implementation("adamp", "adamp AdamP", ADAM, _build(adamp.AdamP)),
        Implementation("sgdp", "adamp SGDP", SGD_, _sgd(adamp.SGDP)),
    ], []


def _fused(device: torch.device) -> tuple[list[Implementation], list[Skipped]]:
    """This package's optimizers on every backend that a user would get on ``device``."""
    found: list[Implementation] = []
    skipped: list[Skipped] = []
    for name, backend in BACKENDS.items():
        reason = usable_by_default(backend, device, False)
        if reason is not None:
            skipped.append(Skipped(f"backend {name}", reason))
            continue
        adamp = _build(FusedAdamP, backend=name)
        sgdp = _sgd(FusedSGDP, backend=name)
        found.append(
            Implementation(f"fused-adamp-{name}", f"FusedAdamP ({name})", ADAM, adamp, True)
        )
        found.append(Implementation(f"fused-sgdp-{name}", f"FusedSGDP ({name})", SGD_, sgdp, True))
    return found, skipped


def baseline_of(family: Family) -> Implementation:
    """The fused optimizer of torch that a family is compared with."""
    return next(i for i in _torch() if i.key == family.baseline)


def control_key(key: str) -> str:
    """The key of the A/A control of an implementation."""
    return f"{key}-control"


def control_of(baseline: Implementation) -> Implementation:
    """A second copy of the baseline, whose ratio to the first is the noise of a run."""
    label = f"{baseline.label}, A/A control"
    return dataclasses.replace(baseline, key=control_key(baseline.key), label=label)


def ours(device: torch.device, family: Family, **options: Any) -> Implementation:
    """This package's optimizer of a family on the backend that a user gets on ``device``.

    Args:
        device: where the parameters live.
        family: which of the two optimizers.
        options: its other options. Their values are appended to key and label.
    """
    backend = choose(None, device, capturable=False).name
    kind, make = (FusedAdamP, _build) if family is ADAM else (FusedSGDP, _sgd)
    values = [str(value) for value in options.values()]
    key = "-".join(["fused", family.title.lower(), backend, *values])
    label = f"{kind.__name__} ({', '.join([backend, *values])})"
    return Implementation(key, label, family, make(kind, backend=backend, **options), True)


def implementations(
    device: torch.device, patterns: list[str] | None = None
) -> tuple[list[Implementation], list[Skipped]]:
    """All implementations that ``device`` allows, and what is missing with the reason.

    Args:
        device: where the parameters live.
        patterns: shell patterns. Only implementations whose key matches one stay, and the
            baseline of each family that still has a member, since ratios need it.

    Raises:
        ValueError: a pattern that matches no implementation.
    """
    theirs, absent = official()
    ours, unusable = _fused(device)
    found, skipped = [*_torch(), *theirs, *ours], [*absent, *unusable]
    if patterns is not None:
        for pattern in patterns:
            if not any(fnmatch.fnmatch(i.key, pattern) for i in found):
                keys = ", ".join(i.key for i in found)
                raise ValueError(f"no implementation matches {pattern!r}; there are {keys}")
        chosen = [i for i in found if any(fnmatch.fnmatch(i.key, p) for p in patterns)]
        families = {i.family for i in chosen}
        found = [i for i in found if i in chosen or (i.is_baseline and i.family in families)]
    return found, skipped
