"""What a backend is.

An optimizer holds the state; a backend holds none. It turns the parameters of one device into a
:class:`Plan`, which performs steps until something it was built on changes.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from adamp_fused._methods import Method

Groups = list[dict[str, Any]]
State = dict[Tensor, dict[str, Tensor]]


class Field(enum.IntEnum):
    """What ``Shard.sums`` holds, as ``adamp::ShardSums`` in csrc/core/params.h."""

    STEPPERS = 0
    FAILED_ROWS = 1
    PP = 2
    GG = 3
    PG = 4
    PU = 5


class StatField(enum.IntEnum):
    """What ``Shard.stats`` holds, as ``adamp::ShardStats`` in csrc/core/params.h."""

    UU = 0
    RP = 1
    RU = 2
    RR = 3


@dataclass
class Shard:
    """What the part of a tensor that is here has to know of the whole, and leaves for it.

    A step writes both tensors where the part has a gradient, for the caller to add up over all
    processes that have a part, and reads the result in :meth:`Plan.finish`.
    """

    #: float64, one of each :class:`Field`. ``STEPPERS`` is 1.
    sums: Tensor
    #: float64 (rows, 4), where rows have parts elsewhere and need their own sums: ``PP`` to ``PU``
    #: of each row that is here. Then the caller tests the rows, and writes all of ``sums`` but
    #: ``STEPPERS``, all of ``stats`` but ``UU``, and ``max_cosine``.
    row_sums: Tensor | None
    #: Of the whole tensor.
    row_length: int
    numel: int
    #: float64, one of each :class:`StatField`: for statistics, added up as well; None: nobody asks.
    stats: Tensor | None = None
    #: float64, one element, with it: the largest |cosine| of a row here, of which the caller finds
    #: the largest of all parts.
    max_cosine: Tensor | None = None


@dataclass
class Slot:
    """One parameter of a step: its tensors, and the options of its group.

    param, grad, and the moments in ``state`` have one shape, dtype and device. ``grad`` is None
    where a parameter takes part in the plan but got no gradient this time. Of a DTensor all of them
    are local tensors.
    """

    param: Tensor
    grad: Tensor | None
    state: dict[str, Tensor]
    group: dict[str, Any]
    group_index: int
    #: ``step`` lives beside the parameter and is advanced there; the host never reads it.
    counts_on_device: bool = False
    #: The DTensor whose local tensor ``param`` is.
    owner: Tensor | None = None
    #: Where the step needs sums of the other parts.
    shard: Shard | None = None
    #: The step leaves its sums in the state ``stats``.
    measured: bool = False


@dataclass
class Control:
    """What decides on the device whether and how a step is made; None: not asked for.

    All tensors have one element, on the plan's device.
    """

    #: float32; gradients are divided by it as they are read.
    grad_scale: Tensor | None = None
    #: float32; not 0: the step changes nothing.
    found_inf: Tensor | None = None
    #: int64; counts such steps.
    steps_skipped: Tensor | None = None
    #: float64; gradients are multiplied by it as they are read.
    clip: Tensor | None = None
    #: Of a plan that clips by itself: the most that the norm of all its gradients may be, and where
    #: it leaves that norm (float32 or float64).
    max_norm: float = math.inf
    grad_norm: Tensor | None = None
    #: The step goes into a CUDA graph, which repeats it with the same addresses.
    is_captured: bool = False


def unscaling(grad_scale: Tensor) -> Tensor:
    """``1 / grad_scale`` as GradScaler.unscale_ rounds it: a 0-dim float64 that is a float32."""
    return grad_scale.reshape(()).double().reciprocal().float().double()


class Plan(Protocol):
    """The work of one device: built when parameters change, run at every step."""

    def refresh(self, groups: Groups, state: State) -> bool:
        """Pick up this step's gradients and options; False where the plan must be built anew.

        Changes nothing that belongs to the user.
        """

    def prepare(self, control: Control | None = None) -> None:
        """Do all of a step that may fail, and change nothing that belongs to the user.

        An optimizer of several plans calls it for each before it runs the first; ``run`` calls it
        where nobody else has.
        """

    def run(self) -> None:
        """Perform one step on what was last picked up, without autograd, and keep no gradient.

        A gradient belongs to the user: zero_grad must be able to free it. Of slots with a
        ``shard``, the part of the step that comes before their sums are added up.
        """

    def finish(self) -> None:
        """The rest of that step; called where a slot has a ``shard``, alone."""


class Backend(Protocol):
    """One implementation of the step."""

    name: str
    #: True: every row of a parameter must be one contiguous run and the gradient and the moments
    #: must share the parameter's strides; the optimizer then passes copies where they do not.
    needs_row_layout: bool
    #: True: a plan finds the norm of its gradients by itself, and clips them.
    clips: bool

    def unavailable(self, device: torch.device, capturable: bool) -> str | None:
        """Why this backend cannot serve ``device``, with the remedy; None if it can."""

    def plan(
        self,
        method: type[Method],
        slots: list[Slot],
        groups: Groups,
        state: State,
        clips: bool = False,
    ) -> Plan:
        """Plan a method for ``slots``, all on one device and all checked.

        ``clips``: each step clips the gradients; only where the backend does.
        """
