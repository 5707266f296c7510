"""The reference backend: the algorithm in plain torch operations, on any device.

This is the readable statement of one step and the fallback where nothing is compiled. Decisions are
masks, not branches, so no line waits for the device.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from adamp_fused import _formulas as F
from adamp_fused._backend import Groups, Plan, Slot, State
from adamp_fused._fake import is_fake

_NUMBERS = ("eps", "weight_decay", "delta", "wd_ratio")
_VIEW_NONE, _VIEW_CHANNEL, _VIEW_LAYER = 0, 1, 2


class ReferenceBackend:
    """Serves every device; see :class:`adamp_fused._backend.Backend`."""

    name = "reference"
    needs_row_layout = False

    def unavailable(self, device: torch.device, capturable: bool) -> str | None:
        """None: plain torch operations run wherever torch does."""
        return None

    def plan(self, method: str, slots: list[Slot], groups: Groups, state: State) -> Plan:
        """A plan for one step."""
        return _ReferencePlan(method, slots, groups)


class _ReferencePlan:
    def __init__(self, method: str, slots: list[Slot], groups: Groups) -> None:
        self._moments = _adam_moments if method == "adamp" else _sgd_moments
        self._slots = slots
        more = () if method == "adamp" else ("momentum", "dampening")
        self._groups = [_with_floats(group, (*_NUMBERS, *more)) for group in groups]

    def refresh(self, groups: Groups, state: State) -> bool:
        """False: the next step collects and checks its tensors again, there is nothing to keep."""
        return False

    def prepare(self) -> None:
        """Nothing is known of memory before an operation asks for it."""

    @torch.no_grad()
    def run(self) -> None:
        slots, groups = self._slots, self._groups
        self._slots, self._groups = [], []  # a plan keeps nothing of the user's alive
        for slot in slots:
            if slot.grad is not None and not is_fake(slot.param):
                group = groups[slot.group_index]
                _step(self._moments, slot.param, slot.grad, slot.state, group)


def _with_floats(group: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The options with floats for what may be a fraction or a tensor of any shape and dtype.

    A tensor ``lr`` stays one: it may live on a device.
    """
    floats = {name: float(group[name]) for name in names}
    lr = group["lr"] if isinstance(group["lr"], Tensor) else float(group["lr"])
    return group | floats | {"lr": lr}


def _step(
    moments: Any, param: Tensor, grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]
) -> None:
    """One parameter, one step: accumulate, decide, apply."""
    opmath = torch.float64 if param.dtype == torch.float64 else torch.float32
    p = param.to(opmath)
    g = -grad.to(opmath) if group["maximize"] else grad.to(opmath)
    u, step_size, decay = moments(g, state, group)
    projected, radial = _decide(p, g, u, state, group)
    wd_ratio = torch.where(projected, p.new_full((), group["wd_ratio"]), p.new_ones(()))
    decay = decay * wd_ratio
    shrink = F.shrinkage(decay, step_size, radial).to(p.dtype)
    radial = radial.to(p.dtype)
    p_new = F.apply_update(p, u, shrink, step_size, radial, decay)
    if group.get("project_buffer", False) and not group["nesterov"]:
        # Before p is stored: `p` and `param` may share memory, as `u` and the buffer may.
        state["momentum"].copy_(u - F.radial_part(p, radial))
    param.copy_(p_new)


def _adam_moments(
    g: Tensor, state: dict[str, Tensor], group: dict[str, Any]
) -> tuple[Tensor, Any, Any]:
    """Update ``exp_avg`` and ``exp_avg_sq``; return ``u``, step size and ``lr * weight_decay``."""
    beta1, beta2 = (float(beta) for beta in group["betas"])
    step = state["step"].add_(1)
    # On the device where the count lives there, else as a Python float: neither waits.
    count = step.double() if group["capturable"] else step.item()
    bias_correction1 = 1 - beta1**count
    bias_correction2 = 1 - beta2**count
    m = _update(state["exp_avg"], g, beta1, 1 - beta1)
    v = _update(state["exp_avg_sq"], g * g, beta2, 1 - beta2)
    numerator = F.moving_average(m, g, beta1, 1 - beta1) if group["nesterov"] else m
    u = F.adam_perturb(numerator, v.sqrt(), bias_correction2**-0.5, group["eps"])
    lr = group["lr"]
    return u, _like(lr / bias_correction1, g), _like(lr * group["weight_decay"], g)


def _sgd_moments(
    g: Tensor, state: dict[str, Tensor], group: dict[str, Any]
) -> tuple[Tensor, Any, Any]:
    """Update ``momentum``; return ``u``, step size and ``lr * weight_decay / (1 - momentum)``."""
    momentum = group["momentum"]
    b = _update(state["momentum"], g, momentum, 1 - group["dampening"])
    u = F.moving_average(b, g, momentum, 1) if group["nesterov"] else b
    lr = group["lr"]
    return u, _like(lr, g), _like(lr * F.sgd_decay(group["weight_decay"], momentum), g)


def _update(average: Tensor, value: Tensor, decay: float, gain: float) -> Tensor:
    """Move a stored average and return it as stored: what a later visit would read back."""
    average.copy_(F.moving_average(average.to(value.dtype), value, decay, gain))
    return average.to(value.dtype)


def _like(number: Any, g: Tensor) -> Any:
    """A tensor ``lr`` as a 0-dim tensor beside ``g``, so that it neither promotes nor waits."""
    if isinstance(number, Tensor):
        return number.reshape(()).to(device=g.device, dtype=g.dtype, non_blocking=True)
    return number


def _decide(
    p: Tensor, g: Tensor, u: Tensor, state: dict[str, Tensor], group: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Whether the update is projected, and the radial coefficient ``k`` of every row in float64."""
    mode, eps = group["projection"], group["eps"]
    no = torch.zeros((), dtype=torch.bool, device=p.device)
    zero = torch.zeros((), dtype=torch.float64, device=p.device)
    if p.dim() < 2 or p.numel() == 0 or mode == "off":
        return no, zero

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
        return ~no, channel_radial
    if mode == "layer":
        return ~no, layer_radial

    gg, pg = rows(g * g), rows(p * g)

    def passes(pp: Tensor, gg: Tensor, pg: Tensor, row_length: int) -> Tensor:
        norm_p, norm_g = pp.sqrt().clamp(min=eps), gg.sqrt().clamp(min=eps)
        bound = group["delta"] / math.sqrt(row_length)
        below: Tensor = F.cosine_below(pg, norm_p, norm_g, bound)
        return below.all()

    channel = passes(pp, gg, pg, p.numel() // p.shape[0])
    layer = passes(pp.sum(), gg.sum(), pg.sum(), p.numel()) & ~channel
    state["view"].copy_(channel * _VIEW_CHANNEL + layer * _VIEW_LAYER)
    radial = torch.where(channel, channel_radial, torch.where(layer, layer_radial, zero))
    return channel | layer, radial
