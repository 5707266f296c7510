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
from adamp_fused._stats import measures_rows
from adamp_fused.backends import formulas as F
from adamp_fused.backends.measurement import Measurement
from adamp_fused.backends.protocol import (
    Control,
    Field,
    Groups,
    Plan,
    Shard,
    Slot,
    State,
    unscaling,
)
from adamp_fused.backends.sums import Sums

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
        self._unfinished: list[_Step] = []  # whose sums are being added up

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
            step = _Step(self._method, slot, slot.grad, group, factor, skips)
            if slot.shard is None:
                step.finish()
            else:
                step.publish(slot.shard)
                self._unfinished.append(step)
        if skips is not None and control is not None and control.steps_skipped is not None:
            control.steps_skipped.add_(skips.reshape(()))

    @torch.no_grad()
    def finish(self) -> None:
        steps, self._unfinished = self._unfinished, []
        for step in steps:
            step.take_sums()
            step.finish()


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


class _Step:
    """One parameter, one step: accumulate when it is made, then decide and apply."""

    def __init__(
        self,
        method: type[Method],
        slot: Slot,
        grad: Tensor,
        group: dict[str, Any],
        factor: Tensor | None,
        skips: Tensor | None,
    ) -> None:
        self._slot, self._method, self._group, self._skips = slot, method, group, skips
        written = [] if skips is None else [slot.param, *slot.state.values()]
        self._before = [(tensor, tensor.clone()) for tensor in written]
        opmath = torch.float64 if slot.param.dtype == torch.float64 else torch.float32
        self._p = p = slot.param.to(opmath)
        g = grad.to(opmath) if factor is None else grad.to(opmath) * factor.to(opmath)
        g = -g if group["maximize"] else g
        self._u, self._step_size, decay = method.accumulate(g, slot.state, group)
        self._decay = decay if isinstance(decay, Tensor) else p.new_full((), decay)
        whole = slot.shard
        self._numel = p.numel() if whole is None else whole.numel
        self._row_length = p.numel() // max(p.shape[0], 1) if p.dim() > 0 else 1
        if whole is not None:
            self._row_length = whole.row_length
        self._projects = p.dim() > 1 and self._numel > 0 and group["projection"] != "off"
        if self._projects:
            self._rows = Sums.of_rows(p, g, self._u)
            self._total, self._failed = self._rows.total(), self._failed_rows()
        self._measurement: Measurement | None = None
        if slot.measured and self._numel > 0:
            if not self._projects:
                self._total, self._failed = Sums.of_all(p, g, self._u), p.new_zeros(())
            rows = self._rows if self._measures_rows() else None
            self._measurement = Measurement(self._u, rows, group["eps"])

    def _measures_rows(self) -> bool:
        return measures_rows(self._group["projection"], self._p.dim())

    def _passes(self, sums: Sums, row_length: int) -> Tensor:
        eps = self._group["eps"]
        norm_p, norm_g = sums.pp.sqrt().clamp(min=eps), sums.gg.sqrt().clamp(min=eps)
        bound = self._group["delta"] / math.sqrt(row_length)
        below: Tensor = F.cosine_below(sums.pg, norm_p, norm_g, bound)
        return below

    def _failed_rows(self) -> Tensor:
        return (~self._passes(self._rows, self._row_length)).sum()

    def publish(self, shard: Shard) -> None:
        """Leave the sums of this part of the tensor; see :class:`Shard`."""
        shard.sums.copy_(torch.stack((torch.ones_like(self._total.pp), self._failed, *self._total)))
        if shard.row_sums is not None:
            shard.row_sums.copy_(torch.stack([rows.flatten() for rows in self._rows], dim=1))
        if self._measurement is not None:
            self._measurement.publish(shard)

    def take_sums(self) -> None:
        """Take the sums of the whole tensor in their place."""
        shard = self._slot.shard
        assert shard is not None
        self._failed = shard.sums[Field.FAILED_ROWS]
        self._total = Sums(*shard.sums[Field.PP :].unbind())
        if shard.row_sums is not None:
            like = self._rows.pp
            self._rows = Sums(*(column.reshape(like.shape) for column in shard.row_sums.unbind(1)))
        if self._measurement is not None:
            self._measurement.take_sums(shard)

    def finish(self) -> None:
        """Decide and apply."""
        p, u, group = self._p, self._u, self._group
        outcome, radial = self._decide()
        decay = F.decay_under(outcome, self._decay, self._decay * group["wd_ratio"])
        if self._measurement is not None:
            self._measurement.note(
                self._slot.state["stats"],
                outcome,
                self._total,
                self._row_length if self._measures_rows() else self._numel,
                (group["lr"], self._method.inv_bias_correction1(self._slot.state, group), decay),
                group["delta"],
            )
        shrink = F.shrinkage(decay, self._step_size, radial).to(p.dtype)
        radial = radial.to(p.dtype)
        p_new = F.apply_update(p, u, shrink, self._step_size, radial, decay)
        if group.get("project_buffer", False) and not group["nesterov"]:
            # Before p is stored: `p` and the parameter may share memory, as `u` and the buffer may.
            self._slot.state[self._method.moments[0]].copy_(u - F.radial_part(p, radial))
        self._slot.param.copy_(p_new)
        for tensor, old in self._before:
            assert self._skips is not None
            tensor.copy_(torch.where(self._skips.reshape(()), old, tensor))

    def _decide(self) -> tuple[Tensor, Tensor]:
        """The outcome, and the radial coefficient ``k`` of every row in float64."""
        p, mode, eps = self._p, self._group["projection"], self._group["eps"]
        if not self._projects:
            return _outcome(_VIEW_NONE, p), p.new_zeros((), dtype=torch.float64)
        rows, total = self._rows, self._total
        channel_radial = F.radial_coefficient(rows.pu, rows.pp.sqrt(), eps)
        layer_radial = F.radial_coefficient(total.pu, total.pp.sqrt(), eps)
        if mode == "channel":
            return _outcome(_VIEW_CHANNEL, p), channel_radial
        if mode == "layer":
            return _outcome(_VIEW_LAYER, p), layer_radial
        outcome = F.decide(self._failed == 0, self._passes(total, self._numel))
        self._slot.state["view"].copy_(outcome)
        return outcome, F.radial_under(outcome, channel_radial, layer_radial)


def _outcome(fixed: int, p: Tensor) -> Tensor:
    """An outcome that no test has to find."""
    return torch.full((), fixed, device=p.device)
