"""The cosine tests of rows that no process has seen whole."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adamp_fused.backends import formulas as F
from adamp_fused.backends.protocol import Field, Groups, StatField


@dataclass(frozen=True)
class Tested:
    """The rows of one tensor.

    Attributes:
        sums: PP to PU of each (rows, 4), float64.
        row_length: elements of a whole row.
        group_index: of the parameter group whose options hold.
        at: where among all tensors the sums of this one are.
    """

    sums: Tensor
    row_length: int
    group_index: int
    at: int


class RowTests:
    """The cosine tests of rows whose sums are complete, for several tensors together."""

    def __init__(
        self,
        tested: list[Tested],
        sums: Tensor,
        stats: Tensor | None = None,
        maxima: Tensor | None = None,
    ) -> None:
        """Prepare the tests.

        Args:
            tested: the rows, tensor by tensor.
            sums: of all tensors, a row of ``Field`` each.
            stats: the same of ``StatField``, where statistics are asked for.
            maxima: with them, the largest cosine of each tensor.
        """
        self._tested, self._sums, self._stats, self._maxima = tested, sums, stats, maxima
        self._at = torch.tensor([one.at for one in tested], device=sums.device)
        self._rows = [one.sums for one in tested]
        self._lengths = torch.tensor([len(rows) for rows in self._rows], device=sums.device)
        self._n_rows = sum(map(len, self._rows))
        self._options: list[tuple[float, float]] = []
        self._eps = self._bound = sums

    def run(self, groups: Groups) -> None:
        """Write how many rows fail, and the sums of the tensor."""
        self._take_options(groups)
        rows = torch.cat(self._rows)
        pp, gg, pg, pu = rows.unbind(1)
        norm_p, norm_g = torch.maximum(pp.sqrt(), self._eps), torch.maximum(gg.sqrt(), self._eps)
        passes = F.cosine_below(pg, norm_p, norm_g, self._bound)
        table = torch.cat(((~passes).to(rows.dtype).unsqueeze(1), rows), dim=1)
        self._sums[self._at, Field.FAILED_ROWS :] = torch.segment_reduce(
            table, "sum", lengths=self._lengths, axis=0
        )
        if self._stats is not None and self._maxima is not None:
            radial = F.radial_coefficient(pu, pp.sqrt(), self._eps)
            removed = torch.stack(F.removed_by(radial, pp, pu), dim=1)
            self._stats[self._at, StatField.RP :] = torch.segment_reduce(
                removed, "sum", lengths=self._lengths, axis=0
            )
            self._maxima[self._at] = torch.segment_reduce(
                F.abs_cosine(pg, norm_p, norm_g), "max", lengths=self._lengths, axis=0, initial=0
            )

    def _take_options(self, groups: Groups) -> None:
        """``eps`` and the cosine's bound for each row, made anew where an option has changed."""
        options = [
            (float(groups[one.group_index]["eps"]), float(groups[one.group_index]["delta"]))
            for one in self._tested
        ]
        if options == self._options:
            return
        self._options = options
        values = [
            (eps, delta / math.sqrt(one.row_length))
            for one, (eps, delta) in zip(self._tested, options, strict=True)
        ]
        table = torch.tensor(values, dtype=torch.float64, device=self._sums.device)
        each_row = table.repeat_interleave(self._lengths, dim=0, output_size=self._n_rows)
        self._eps, self._bound = each_row.unbind(1)
