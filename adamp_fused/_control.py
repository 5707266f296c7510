"""What decides on the device whether and how a step is made: GradScaler, and clipping.

torch's GradScaler leaves two tensors on an optimizer whose ``_step_supports_amp_scaling`` is set:
``grad_scale``, by which gradients are to be divided (None: they have been), and ``found_inf``,
which is not 0 where the step is to be skipped. Nothing here reads a tensor's value.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adamp_fused.backends import formulas as F
from adamp_fused.backends.protocol import Control, unscaling


class Given(NamedTuple):
    """What GradScaler has left on the optimizer."""

    grad_scale: Tensor | None
    found_inf: Tensor | None


def given_to(optimizer: Any, supported: bool) -> Given | None:
    """What GradScaler has left on the optimizer; None: nothing.

    Raises:
        RuntimeError: there is something, and the optimizer was made without ``grad_scaling``.
        TypeError: it is no float32 tensor of one element.
    """
    # Not by way of __dict__: once an object has made that, all attributes take longer to find, and
    # a step of one small tensor 3.1 us for 2.8.
    scale, found_inf = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
    if scale is None and found_inf is None:
        return None
    if not supported:
        raise RuntimeError(
            "grad_scale or found_inf is set on the optimizer, which was made with "
            "grad_scaling=False and would take the gradients as they are; use grad_scaling=True, "
            "or leave _step_supports_amp_scaling unset: GradScaler then unscales and skips itself"
        )
    for name, value in (("grad_scale", scale), ("found_inf", found_inf)):
        if value is None:
            continue
        if not isinstance(value, Tensor) or value.dtype != torch.float32 or value.numel() != 1:
            kind = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else repr(value)
            raise TypeError(
                f"{name} is {kind} and must be a float32 tensor of one element, as GradScaler sets "
                "it; use torch.amp.GradScaler"
            )
    return Given(scale, found_inf)


def sum_of_squares(grads: list[Tensor], device: torch.device) -> Tensor:
    """Of all elements of ``grads``: a 0-dim float64 on ``device``."""
    norms = [
        torch.linalg.vector_norm(
            grad, dtype=torch.float64 if grad.dtype == torch.float64 else torch.float32
        ).to(device=device, dtype=torch.float64, non_blocking=True)
        for grad in grads
    ]
    if not norms:
        return torch.zeros((), dtype=torch.float64, device=device)
    return torch.stack(norms).square().sum()


@dataclasses.dataclass
class Clipping:
    """The option ``max_grad_norm``: one norm for all parameters.

    Attributes:
        max_norm: the most that it may be; a tensor's gradients are multiplied by
            ``min(1, max_norm / (norm + 1e-6))``.
        norm: of the last step, before clipping; on the device of the first parameter.
        in_plan: whether the one plan that there is finds it by itself.
    """

    max_norm: float
    norm: Tensor | None = None
    in_plan: bool = False

    def prepare(self, device: torch.device, is_double: bool) -> None:
        """Make the tensor that holds the norm, once."""
        dtype = torch.float64 if is_double else torch.float32
        if self.norm is None or (self.norm.device, self.norm.dtype) != (device, dtype):
            self.norm = torch.zeros((), dtype=dtype, device=device)

    def find(self, squares: Tensor, given: Given | None) -> Tensor:
        """Write the norm of all gradients, and return what they are to be multiplied by (float64).

        A step that is skipped leaves the norm as it was.

        Args:
            squares: the sum of the squares of all gradients, as they are.
            given: by GradScaler.
        """
        assert self.norm is not None
        norm = squares.to(self.norm.device, non_blocking=True).sqrt()
        if given is not None and given.grad_scale is not None:
            norm = norm * unscaling(given.grad_scale).to(norm.device, non_blocking=True)
        found = None if given is None else given.found_inf
        if found is None:
            self.norm.copy_(norm)
        else:
            skipped = found.reshape(()).to(norm.device, non_blocking=True) != 0
            self.norm.copy_(torch.where(skipped, self.norm.double(), norm))
        coefficient: Tensor = F.clip_coefficient(norm, self.max_norm)
        return coefficient


def controls(
    devices: list[torch.device],
    given: Given | None,
    skipped: Tensor | None,
    clipping: Clipping | None,
    clip: Tensor | None,
    is_captured: bool,
) -> list[Control]:
    """One for the plan of each device.

    Args:
        devices: of the plans.
        given: by GradScaler.
        skipped: counts the skipped steps, on the first device.
        clipping: where the gradients are clipped.
        clip: what :meth:`Clipping.find` returned, where it is not found by the plan.
        is_captured: the step goes into a graph.
    """

    def there(tensor: Tensor | None, device: torch.device) -> Tensor | None:
        return None if tensor is None else tensor.to(device, non_blocking=True)

    found = []
    for index, device in enumerate(devices):
        control = Control(clip=there(clip, device), is_captured=is_captured)
        if given is not None:
            control.grad_scale = there(given.grad_scale, device)
            control.found_inf = there(given.found_inf, device)
            if index == 0 and given.found_inf is not None:
                control.steps_skipped = skipped
        if clipping is not None and clipping.in_plan:
            control.max_norm, control.grad_norm = clipping.max_norm, clipping.norm
        found.append(control)
    return found
