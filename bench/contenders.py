"""The optimizers that are compared, each built for a given list of parameters."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from adamp_fused import FusedAdamP, FusedSGDP
from adamp_fused.backends.registry import BACKENDS, choose, usable_by_default
from bench.gradients import LEARNING_RATE

WEIGHT_DECAY = 0.01
MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Family:
    """Optimizers with the same state, and hence the same bytes to move."""

    name: str
    title: str
    anchor: str
    states: int


ADAM = Family("adam", "AdamP", anchor="torch-adamw-fused", states=2)
SGD_ = Family("sgd", "SGDP", anchor="torch-sgd-fused", states=1)
FAMILIES = (ADAM, SGD_)


@dataclasses.dataclass(frozen=True)
class Contender:
    """One optimizer to time; ``ours`` marks this package's."""

    key: str
    label: str
    family: Family
    build: Callable[[list[Tensor]], Optimizer]
    ours: bool = False

    @property
    def is_anchor(self) -> bool:
        """True for the one that the others' ratios refer to."""
        return self.key == self.family.anchor


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Something that was not measured, and why."""

    name: str
    reason: str


def _adam(optimizer: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    return lambda params: optimizer(params, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, **options)


def _sgd(optimizer: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    return lambda params: optimizer(
        params, lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, **options
    )


def _torch() -> list[Contender]:
    """What a user of torch would pick instead."""
    adamw = {"fused": {"fused": True}, "foreach": {"foreach": True}, "for-loop": {"foreach": False}}
    found = [
        Contender(f"torch-adamw-{how}", f"torch AdamW ({how})", ADAM, _adam(AdamW, **options))
        for how, options in adamw.items()
    ]
    return [*found, Contender("torch-sgd-fused", "torch SGD (fused)", SGD_, _sgd(SGD, fused=True))]


def official() -> Any | None:
    """The authors' package, or None where it is not installed."""
    return importlib.import_module("adamp") if importlib.util.find_spec("adamp") else None


def _official() -> tuple[list[Contender], list[Skipped]]:
    """The authors' own optimizers."""
    adamp = official()
    if adamp is None:
        return [], [Skipped("adamp", "not installed (pip install adamp==0.3.0)")]
    return [
        Contender("adamp", "adamp AdamP", ADAM, _adam(adamp.AdamP)),
        Contender("sgdp", "adamp SGDP", SGD_, _sgd(adamp.SGDP)),
    ], []


def _fused(device: torch.device) -> tuple[list[Contender], list[Skipped]]:
    """This package's optimizers on every backend that a user would get on ``device``."""
    found: list[Contender] = []
    skipped: list[Skipped] = []
    for name, backend in BACKENDS.items():
        reason = usable_by_default(backend, device, False)
        if reason is not None:
            skipped.append(Skipped(f"backend {name}", reason))
            continue
        adamp = _adam(FusedAdamP, backend=name)
        sgdp = _sgd(FusedSGDP, backend=name)
        found.append(Contender(f"fused-adamp-{name}", f"FusedAdamP ({name})", ADAM, adamp, True))
        found.append(Contender(f"fused-sgdp-{name}", f"FusedSGDP ({name})", SGD_, sgdp, True))
    return found, skipped


def ours(device: torch.device, family: Family, **options: Any) -> Contender:
    """This package's optimizer of a family on the backend that a user gets on ``device``.

    Args:
        device: where the parameters live.
        family: which of the two optimizers.
        options: further options of it; their values are appended to key and label.
    """
    backend = choose(None, device, capturable=False).name
    kind, make = (FusedAdamP, _adam) if family is ADAM else (FusedSGDP, _sgd)
    values = [str(value) for value in options.values()]
    key = "-".join(["fused", family.title.lower(), backend, *values])
    label = f"{kind.__name__} ({', '.join([backend, *values])})"
    return Contender(key, label, family, make(kind, backend=backend, **options), True)


def contenders(
    device: torch.device, patterns: list[str] | None = None
) -> tuple[list[Contender], list[Skipped]]:
    """All contenders that ``device`` allows, and what is missing with the reason.

    Args:
        device: where the parameters live.
        patterns: shell patterns; only contenders whose key matches one stay, and the anchor of
            each family that still has a member, since ratios need it.

    Raises:
        ValueError: a pattern that matches no contender.
    """
    theirs, absent = _official()
    ours, unusable = _fused(device)
    found, skipped = [*_torch(), *theirs, *ours], [*absent, *unusable]
    if patterns is not None:
        for pattern in patterns:
            if not any(fnmatch.fnmatch(contender.key, pattern) for contender in found):
                keys = ", ".join(contender.key for contender in found)
                raise ValueError(f"no contender matches {pattern!r}; there are {keys}")
        chosen = [c for c in found if any(fnmatch.fnmatch(c.key, p) for p in patterns)]
        families = {contender.family for contender in chosen}
        found = [c for c in found if c in chosen or (c.is_anchor and c.family in families)]
    return found, skipped
