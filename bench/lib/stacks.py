"""What stands around a step in training: GradScaler, clipping, compilation, graphs, statistics.

Each makes of an implementation one whose ``step()`` has that around it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from bench.lib.implementations import Family, Implementation, baseline_of, ours

MAX_NORM = 1.0
#: Steps before a capture.
WARM_UP = 3


def _around(
    implementation: Implementation, name: str, change: Callable[[Optimizer, list[Tensor]], None]
) -> Implementation:
    """The implementation with ``change`` made to each of its optimizers."""

    def build(params: list[Tensor], **options: Any) -> Optimizer:
        optimizer = implementation.build(params, **options)
        change(optimizer, params)
        return optimizer

    key, label = f"{implementation.key}-{name}", f"{implementation.label}, {name}"
    return dataclasses.replace(implementation, key=key, label=label, build=build)


def scaled(implementation: Implementation, found_inf: float = 0.0) -> Implementation:
    """With what GradScaler leaves on an optimizer. The scale is 1: AdamW stores what it divides."""

    def change(optimizer: Optimizer, params: list[Tensor]) -> None:
        device = params[0].device
        optimizer.grad_scale = torch.ones((), device=device)  # type: ignore[attr-defined]
        found = torch.tensor(found_inf, device=device)
        optimizer.found_inf = found  # type: ignore[attr-defined]

    return _around(implementation, "skipped" if found_inf else "scaled", change)


def clipped_before(implementation: Implementation) -> Implementation:
    """With torch's clipping before each step."""

    def change(optimizer: Optimizer, params: list[Tensor]) -> None:
        def clip(*_: Any) -> None:
            clip_grad_norm_(params, MAX_NORM, foreach=True)

        optimizer.register_step_pre_hook(clip)

    return _around(implementation, "clip_grad_norm_", change)


def compiled(implementation: Implementation) -> Implementation:
    """With a step that torch.compile has compiled."""

    def change(optimizer: Optimizer, params: list[Tensor]) -> None:
        step: Any = torch.compile(optimizer.step, fullgraph=True)
        optimizer.step = step  # type: ignore[method-assign]

    return _around(implementation, "compiled", change)


def replayed(implementation: Implementation) -> Implementation:
    """With a step that is a CUDA graph, after a few that are not."""

    def change(optimizer: Optimizer, params: list[Tensor]) -> None:
        graph, plain, made = torch.cuda.CUDAGraph(), optimizer.step, 0

        def step() -> None:
            nonlocal made
            made += 1
            if made < WARM_UP:
                plain()
                return
            if made == WARM_UP:
                with torch.cuda.graph(graph):
                    plain()
            graph.replay()

        optimizer.step = step  # type: ignore[method-assign, assignment]

    return _around(implementation, "replayed", change)


#: What a row of the targets compares: this package's, and its baseline.
Pair = tuple[Implementation, Implementation]


def pairs(family: Family, device: torch.device) -> dict[str, Pair]:
    """By the name of the target."""
    plain, theirs = ours(device, family), baseline_of(family)
    scaling = scaled(ours(device, family, grad_scaling=True))
    found = {
        "scaled": (scaling, scaled(theirs)),
        "skipped": (scaled(ours(device, family, grad_scaling=True), 1.0), scaling),
        "clipped": (ours(device, family, max_grad_norm=MAX_NORM), clipped_before(theirs)),
        "compiled": (compiled(plain), plain),
        "measured": (ours(device, family, stats=True), plain),
    }
    if device.type == "cuda":
        capturable = ours(device, family, capturable=True)
        found["replayed"] = replayed(capturable), capturable
    return found
