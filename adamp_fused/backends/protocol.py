"""What a backend is.

An optimizer holds the state; a backend holds none. It turns the parameters of one device into a
:class:`Plan`, which performs steps until something it was built on changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from adamp_fused._methods import Method

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

    def plan(self, method: type[Method], slots: list[Slot], groups: Groups, state: State) -> Plan:
        """Plan a method for ``slots``, all on one device and all checked."""
