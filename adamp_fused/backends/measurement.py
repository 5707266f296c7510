"""The statistics of one step in plain torch operations, for the reference backend.

See ``adamp_fused/_stats.py``; ``csrc/core/stats.h`` states the same for C++ and CUDA.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adamp_fused._stats import OUTCOMES, Stat
from adamp_fused.backends import formulas as F
from adamp_fused.backends.protocol import Shard
from adamp_fused.backends.sums import Sums

_CHANNEL, _LAYER = OUTCOMES.index("channel"), OUTCOMES.index("layer")


class Measurement:
    """Of one parameter in one step. No value is read, so nothing waits for the device."""

    def __init__(self, u: Tensor, rows: Sums | None, eps: float) -> None:
        """``rows``: the sums of each row; None: the parameter is measured as one row."""
        self._eps = eps
        self._rows = rows
        self._uu = u.double().square().sum()
        self._max_cosine = None if rows is None else self._largest_cosine(rows)
        self._removed = None if rows is None else self._removed_by_rows(rows)

    def publish(self, shard: Shard) -> None:
        """Leave what is here; of rows that are not whole here, ``UU`` alone."""
        if shard.stats is None or shard.max_cosine is None:
            return
        none = torch.zeros_like(self._uu)
        is_whole = self._removed is not None and shard.row_sums is None
        removed = self._removed if is_whole and self._removed is not None else (none, none, none)
        shard.stats.copy_(torch.stack((self._uu, *removed)))
        if is_whole and self._max_cosine is not None:
            shard.max_cosine.copy_(self._max_cosine)

    def take_sums(self, shard: Shard) -> None:
        """Take those of the whole tensor in their place."""
        if shard.stats is None or shard.max_cosine is None:
            return
        self._uu, *removed = shard.stats.unbind()
        if self._rows is not None:
            self._removed = (removed[0], removed[1], removed[2])
            self._max_cosine = shard.max_cosine.reshape(())

    def note(
        self,
        stats: Tensor,
        outcome: Tensor,
        total: Sums,
        row_length: int,
        numbers: tuple[Any, Any, Any],
        delta: float,
    ) -> None:
        """Write a step into the state ``stats``.

        Args:
            stats: float64, one of each :class:`Stat`.
            outcome: 0-dim: 0 none, 1 channel, 2 layer.
            total: the sums of the whole parameter.
            row_length: of what is measured as a row.
            numbers: ``lr``, ``1 / bias_correction1``, and the weight decay of the step.
            delta: the group's.
        """
        radial = F.radial_coefficient(total.pu, total.pp.sqrt(), self._eps)
        radial = torch.where(outcome == _LAYER, radial, 0.0)
        removed = F.removed_by(radial, total.pp, total.pu)
        max_cosine = self._largest_cosine(total)
        if self._removed is not None and self._max_cosine is not None:
            pairs = zip(self._removed, removed, strict=True)
            removed = tuple(torch.where(outcome == _CHANNEL, rows, all) for rows, all in pairs)
            max_cosine = self._max_cosine
        is_first = stats[: Stat.OUTCOME].sum() == 0
        first_pp = torch.where(is_first, total.pp, stats[Stat.FIRST_PP])
        outcomes = torch.arange(len(OUTCOMES), device=stats.device) == outcome
        noted = {
            Stat.OUTCOME: outcome,
            Stat.MAX_COSINE: max_cosine,
            Stat.BOUND: delta / row_length**0.5,
            Stat.PP: total.pp,
            Stat.GG: total.gg,
            Stat.PU: total.pu,
            Stat.UU: self._uu,
            **dict(zip((Stat.RP, Stat.RU, Stat.RR), removed, strict=True)),
            **dict(zip((Stat.LR, Stat.INV_BIAS_CORRECTION1, Stat.DECAY), numbers, strict=True)),
            Stat.FIRST_PP: first_pp,
        }
        stats[: Stat.OUTCOME].add_(outcomes)
        for at, value in noted.items():
            if isinstance(value, Tensor):
                stats[at].copy_(value.reshape(()))
            else:
                stats[at].fill_(float(value))

    def _largest_cosine(self, sums: Sums) -> Tensor:
        if sums.pp.numel() == 0:
            return torch.zeros_like(self._uu)
        norm_p, norm_g = sums.pp.sqrt().clamp(min=self._eps), sums.gg.sqrt().clamp(min=self._eps)
        largest: Tensor = F.abs_cosine(sums.pg, norm_p, norm_g).max()
        return largest

    def _removed_by_rows(self, rows: Sums) -> tuple[Tensor, Tensor, Tensor]:
        radial = F.radial_coefficient(rows.pu, rows.pp.sqrt(), self._eps)
        rp, ru, rr = F.removed_by(radial, rows.pp, rows.pu)
        return rp.sum(), ru.sum(), rr.sum()
