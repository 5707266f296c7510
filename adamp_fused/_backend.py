"""What a backend is, and the one place that chooses among them.

An optimizer holds the state; a backend holds none. It turns the parameters of one device into a
:class:`Plan`, which performs steps until something it was built on changes.
"""

from __future__ import annotations

import functools
import sys
import warnings
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from adamp_fused._fake import is_fake

Groups = list[dict[str, Any]]
State = dict[Tensor, dict[str, Tensor]]


@dataclass
class Slot:
    """One parameter of a step: its tensors, and the options of its group.

    param, grad, and the moments in ``state`` have one shape, dtype and device. ``grad`` is None
    where a parameter takes part in the plan but got no gradient this time.
    """

    param: Tensor
    grad: Tensor | None
    state: dict[str, Tensor]
    group: dict[str, Any]
    group_index: int


class Plan(Protocol):
    """The work of one device: built when parameters change, run at every step."""

    def refresh(self, groups: Groups, state: State) -> bool:
        """Pick up this step's gradients and options; False where the plan must be built anew.

        Changes nothing that belongs to the user.
        """

    def prepare(self) -> None:
        """Do all of a step that may fail, and change nothing that belongs to the user.

        An optimizer of several plans calls it for each before it runs the first; ``run`` calls it
        where nobody else has.
        """

    def run(self) -> None:
        """Perform one step on what was last picked up, without autograd, and keep no gradient.

        A gradient belongs to the user: zero_grad must be able to free it.
        """


class Backend(Protocol):
    """One implementation of the step."""

    name: str
    #: True: every row of a parameter must be one contiguous run and the gradient and the moments
    #: must share the parameter's strides; the optimizer then passes copies where they do not.
    needs_row_layout: bool

    def unavailable(self, device: torch.device, capturable: bool) -> str | None:
        """Why this backend cannot serve ``device``, with the remedy; None if it can."""

    def plan(self, method: str, slots: list[Slot], groups: Groups, state: State) -> Plan:
        """Plan ``method`` ("adamp" or "sgdp") for ``slots``, all on one device and all checked."""


def _backends() -> dict[str, Backend]:
    # Imported here because each backend imports the protocol above.
    from adamp_fused._native import NativeBackend
    from adamp_fused._reference import ReferenceBackend
    from adamp_fused._triton import TritonBackend

    best_first: list[Backend] = [
        NativeBackend("cuda", "cuda"),
        TritonBackend(),
        NativeBackend("cpu", "cpu"),
        ReferenceBackend(),
    ]
    return {backend.name: backend for backend in best_first}


BACKENDS: dict[str, Backend] = {}


def check_name(requested: str | None) -> None:
    """Raise ValueError unless ``requested`` is None or names a backend."""
    if requested not in (None, *BACKENDS):
        raise ValueError(
            f"backend={requested!r} is not a backend; use one of {', '.join(map(repr, BACKENDS))}, "
            "or None for the best one of each parameter's device"
        )


def choose_for(requested: str | None, param: Tensor, capturable: bool) -> Backend:
    """The backend of one parameter; the reference where there is nothing to compute with.

    Raises:
        RuntimeError: the requested backend cannot serve the parameter's device.
    """
    if is_fake(param):
        return BACKENDS["reference"]
    return choose(requested, param.device, capturable)


def choose(requested: str | None, device: torch.device, capturable: bool) -> Backend:
    """The requested backend, or the best one that can serve ``device``.

    Raises:
        RuntimeError: the requested backend cannot serve the device.
    """
    check_name(requested)
    if requested is not None:
        reason = BACKENDS[requested].unavailable(device, capturable)
        if reason is not None:
            raise RuntimeError(
                f"backend={requested!r} cannot serve parameters on {str(device)!r}: {reason}"
            )
        return BACKENDS[requested]
    why_not = {}
    for name, backend in BACKENDS.items():
        reason = usable_by_default(backend, device, capturable)
        if reason is None:
            break
        why_not[name] = reason
    if backend.name == "reference":
        _say_once(device, why_not)
    return backend


def warn(text: str) -> None:
    """Warn at the user's line."""
    warnings.warn(text, stacklevel=_users_level())


_say = functools.cache(warn)


def _users_level() -> int:
    """How far up from the caller the first line is that is neither this package's nor torch's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and _package_of(frame) in ("adamp_fused", "torch"):
        level, frame = level + 1, frame.f_back
    return level


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _say_once(device: torch.device, why_not: dict[str, str]) -> None:
    """Tell the user that the slowest backend was the best one, and what the others lack."""
    reasons = "; ".join(f"{name}: {reason}" for name, reason in why_not.items())
    _say(
        f"adamp_fused steps parameters on {str(device)!r} with the reference backend, plain torch "
        f"operations, since no faster one is available ({reasons})"
    )


def usable_by_default(backend: Backend, device: torch.device, capturable: bool) -> str | None:
    """None where ``backend=None`` may choose this backend for ``device``, else why not."""
    if backend.name == "triton" and device.type == "cpu":
        return (
            "Triton runs CPU tensors in its interpreter only, which is for tests, not for training"
        )
    return backend.unavailable(device, capturable)


BACKENDS.update(_backends())
