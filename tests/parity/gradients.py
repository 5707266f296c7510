"""Gradients that make the next outcome none, channel or layer on demand, well away from the bound.

Every gradient is random apart from its part along the weights, which is chosen per row:

- none: signs as the weights have, so every row and the whole tensor lie along p.
- channel: every row at right angles to its row of p.
- layer: as channel, but the last row and one other lie along p, one forwards and one backwards, so
  that the two cancel in the layer's sum. Only two rows fail: a lost last row is noticed.
"""

import torch
from torch import Tensor

from parity.oracle import CHANNEL, LAYER, NONE

# Each outcome follows each other one and itself.
SCRIPT = (
    *(NONE, CHANNEL, LAYER, NONE, LAYER, CHANNEL, NONE, NONE, CHANNEL, CHANNEL),
    *(LAYER, LAYER, NONE, CHANNEL, LAYER, NONE, LAYER, CHANNEL, NONE, CHANNEL),
)


def reachable(shape: tuple[int, ...]) -> set[int]:
    """Outcomes that a non-zero gradient can give a parameter of this shape, zero delta aside."""
    channels = shape[0] if len(shape) > 1 else 0
    numel = torch.Size(shape).numel()
    if channels == 0 or numel == 0:
        return {NONE}
    length = numel // channels
    outcomes = {NONE}
    if length > 1:
        outcomes.add(CHANNEL)  # a row of one element is always along its weight
    if channels > 1:
        outcomes.add(LAYER)  # with one row the two views coincide, and channel comes first
    return outcomes


def generator(seed: int) -> torch.Generator:
    """Give a CPU generator of its own, so that no test depends on the ones before it."""
    return torch.Generator().manual_seed(seed)


def noise(shape: torch.Size, rng: torch.Generator) -> Tensor:
    """Random signs times magnitudes in [0.5, 1.5): no element so small that its size is chance."""
    signs = torch.randint(0, 2, shape, generator=rng).double() * 2 - 1
    return signs * (torch.rand(shape, generator=rng, dtype=torch.float64) + 0.5)


def across(p: Tensor, g: Tensor) -> Tensor:
    """Remove from each row of g its part along that row of p (both (C, D))."""
    squares = (p * p).sum(1, keepdim=True).clamp_min(1e-300)
    return g - p * (p * g).sum(1, keepdim=True) / squares


def scripted(p: Tensor, outcome: int, rng: torch.Generator) -> Tensor:
    """Give a float64 gradient for p (float64, CPU) that leads to the outcome, or to none."""
    if outcome not in reachable(tuple(p.shape)):
        outcome = NONE
    g = noise(p.shape, rng)
    if p.dim() <= 1 or p.numel() == 0:
        return g
    if outcome == NONE:
        return g.abs() * p.sign()
    weights = p.reshape(p.shape[0], -1)
    g = across(weights, g.reshape(weights.shape))
    if outcome == LAYER:
        other = int(torch.randint(0, len(weights) - 1, (), generator=rng))
        along = weights[[other, -1]] / (weights[[other, -1]] ** 2).sum(1, keepdim=True)
        size = max(1.0, g[other].norm().item()) * weights[other].norm()
        g[[other, -1]] += along * size * torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    return g.reshape(p.shape)
