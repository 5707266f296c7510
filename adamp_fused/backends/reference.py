"""The reference backend: the algorithm in plain torch operations, on any device.

This is the readable statement of one step and the fallback where nothing is compiled. Decisions are
masks, not branches, so no line waits for the device.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from adamp_fused._fake import is_fake
from adamp_fused._methods import Method
from adamp_fused._options import NUMBERS, TENSORS
from adamp_fused.backends import formulas as F
from adamp_fused.backends.protocol import Control, Groups, Plan, Slot, State, unscaling

_VIEW_NONE, _VIEW_CHANNEL, _VIEW_LAYER = 0, 1, 2


class ReferenceBackend:
    """Serves every device; see :class:`adamp_fused.backends.protocol.Backend`."""

    name = "reference"
    needs_row_layout = False
    clips = False

    def unavailable(self, device: torch.device, capturable: bool) -> str | None:
        """None: plain torch operations run wherever torch does."""
        return None

    def plan(
        self,
        method: type[Method],
        slots: list[Slot],
        groups: Groups,
        state: State,
        clips: bool = False,
    ) -> Plan:
        """A plan for one step."""
        return _ReferencePlan(method, slots, groups)


class _ReferencePlan:
    def __init__(self, method: type[Method], slots: list[Slot], groups: Groups) -> None:
        self._method = method
        self._slots = slots
        numbers = (*NUMBERS, *method.numbers)
        self._groups = [_with_floats(group, numbers) for group in groups]
        self._control: Control | None = None

    def refresh(self, groups: Groups, state: State) -> bool:
        """False: the next step collects and checks its tensors again, there is nothing to keep."""
        return False

    def prepare(self, control: Control | None = None) -> None:
        """Nothing is known of memory before an operation asks for it."""
        self._control = control

    @torch.no_grad()
    def run(self) -> None:
        slots, groups, control = self._slots, self._groups, self._control
        # A plan keeps nothing of the user's alive.
        self._slots, self._groups, self._control = [], [], None
        factor = None if control is None else _grad_factor(control)
        skips = None if control is None or control.found_inf is None else control.found_inf != 0
        for slot in slots:
            if slot.grad is None or is_fake(slot.param):
                continue
            group = groups[slot.group_index]
            group = group | {"capturable": group["capturable"] or slot.counts_on_device}
            written = [] if skips is None else [slot.param, *slot.state.values()]
            before = [tensor.clone() for tensor in written]
            _step(self._method, slot.param, slot.grad, slot.state, group, factor)
            for tensor, old in zip(written, before, strict=True):
                assert skips is not None
                tensor.copy_(torch.where(skips.reshape(()), old, tensor))
        if skips is not None and control is not None and control.steps_skipped is not None:
            control.steps_skipped.add_(skips.reshape(()))


def _grad_factor(control: Control) -> Tensor | None:
    """What gradients are multiplied by before anything else is done to them: a 0-dim float64."""
    if control.grad_scale is None:
        return control.clip
    unscale = unscaling(control.grad_scale)
    return unscale if control.clip is None else unscale * control.clip


def _with_floats(group: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The options with floats for what may be a fraction or a tensor of any shape and dtype.

    A tensor ``lr`` or ``weight_decay`` stays one: it may live on a device.
    """
    stay = {name for name in TENSORS if isinstance(group[name], Tensor)}
    return group | {name: float(group[name]) for name in {"lr", *names} - stay}


def _step(
    method: type[Method],
    param: Tensor,
    grad: Tensor,
    state: dict[str, Tensor],
    group: dict[str, Any],
    factor: Tensor | None,
) -> None:
    """One parameter, one step: accumulate, decide, apply."""
    opmath = torch.float64 if param.dtype == torch.float64 else torch.float32
    p = param.to(opmath)
    g = grad.to(opmath) if factor is None else grad.to(opmath) * factor.to(opmath)
    g = -g if group["maximize"] else g
    u, step_size, decay = method.accumulate(g, state, group)
    outcome, radial = _decide(p, g, u, state, group)
    decay = decay if isinstance(decay, Tensor) else p.new_full((), decay)
    decay = F.decay_under(outcome, decay, decay * group["wd_ratio"])
    shrink = F.shrinkage(decay, step_size, radial).to(p.dtype)
    radial = radial.to(p.dtype)
    p_new = F.apply_update(p, u, shrink, step_size, radial, decay)
    if group.get("project_buffer", False) and not group["nesterov"]:
        # Before p is stored: `p` and `param` may share memory, as `u` and the buffer may.
        state[method.moments[0]].copy_(u - F.radial_part(p, radial))
    param.copy_(p_new)


def _decide(
    p: Tensor, g: Tensor, u: Tensor, state: dict[str, Tensor], group: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """The outcome, and the radial coefficient ``k`` of every row in float64."""
    mode, eps = group["projection"], group["eps"]
    if p.dim() < 2 or p.numel() == 0 or mode == "off":
        return _outcome(_VIEW_NONE, p), p.new_zeros((), dtype=torch.float64)

    # In float32 the squares of a gradient of 1e20 would be infinite, and those of 1e18 add up to
    # it: then every row would pass.
    p, g, u = p.double(), g.double(), u.double()
    within_row = tuple(range(1, p.dim()))

    def rows(product: Tensor) -> Tensor:
        return product.sum(dim=within_row, keepdim=True)

    # The layer view's sums are the totals of the channel sums.
    pp, pu = rows(p * p), rows(p * u)
    channel_radial = F.radial_coefficient(pu, pp.sqrt(), eps)
    layer_radial = F.radial_coefficient(pu.sum(), pp.sum().sqrt(), eps)
    if mode == "channel":
        return _outcome(_VIEW_CHANNEL, p), channel_radial
    if mode == "layer":
        return _outcome(_VIEW_LAYER, p), layer_radial

    gg, pg = rows(g * g), rows(p * g)

    def passes(pp: Tensor, gg: Tensor, pg: Tensor, row_length: int) -> Tensor:
        norm_p, norm_g = pp.sqrt().clamp(min=eps), gg.sqrt().clamp(min=eps)
        bound = group["delta"] / math.sqrt(row_length)
        below: Tensor = F.cosine_below(pg, norm_p, norm_g, bound)
        return below.all()

    every_row = passes(pp, gg, pg, p.numel() // p.shape[0])
    outcome = F.decide(every_row, passes(pp.sum(), gg.sum(), pg.sum(), p.numel()))
    state["view"].copy_(outcome)
    return outcome, F.radial_under(outcome, channel_radial, layer_radial)


def _outcome(fixed: int, p: Tensor) -> Tensor:
    """An outcome that no test has to find."""
    return torch.full((), fixed, device=p.device)
