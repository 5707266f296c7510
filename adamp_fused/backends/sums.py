"""The sums that the projection is made of, in plain torch operations, for the reference backend."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Sums(NamedTuple):
    """``pp``, ``gg``, ``pg`` and ``pu`` (``backends/formulas.py``) of each row, or of all of them.

    In float64: in float32 the squares of a gradient of 1e20 would be infinite, and those of 1e18
    add up to it; then every row would pass.
    """

    pp: Tensor
    gg: Tensor
    pg: Tensor
    pu: Tensor

    @staticmethod
    def of_rows(p: Tensor, g: Tensor, u: Tensor) -> Sums:
        """Of shape (rows, 1, ...)."""
        p, g, u = p.double(), g.double(), u.double()
        within_row = tuple(range(1, p.dim()))
        products = (p * p, g * g, p * g, p * u)
        return Sums(*(product.sum(dim=within_row, keepdim=True) for product in products))

    @staticmethod
    def of_all(p: Tensor, g: Tensor, u: Tensor) -> Sums:
        """Of all elements as one row, 0-dim."""
        p, g, u = p.double(), g.double(), u.double()
        return Sums(*((a * b).sum() for a, b in ((p, p), (g, g), (p, g), (p, u))))

    def total(self) -> Sums:
        """The layer view's sums are the totals of the channel sums."""
        return Sums(*(rows.sum() for rows in self))
