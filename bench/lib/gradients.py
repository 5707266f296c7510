"""Parameters and gradients whose projection outcome is known.

The test of AdamP compares ``|cos(p, g)|`` with ``delta/sqrt(row length)``. Adding ``a·p`` to a
random normal ``g`` sets that cosine exactly, so a run can be given the outcome it is to measure.
"""

from __future__ import annotations

import itertools
import math
import random

import torch
from torch import Tensor

from bench.lib.workloads import Workload

OUTCOMES = {
    "natural": "as in training: channel-wise before a BatchNorm, else layer-wise in 2 % of steps",
    "projected": "every matrix channel-wise",
    "unprojected": "none",
    "alternating": "matrices in turn channel-wise and not at all",
    "mixed": "matrices in turn layer-wise, channel-wise and not at all",
}
"""The outcomes of the projection test that a run can ask for."""

ADVERSARY = "adversary"
"""An outcome of no training: every matrix changes between channel-wise and none at every step, so
that each prediction is wrong."""

NONE, CHANNEL, LAYER = 0, 1, 2
"""Values of the optimizer's state ``view``."""

VIEWS = {
    "projected": (CHANNEL,),
    "unprojected": (NONE,),
    "alternating": (CHANNEL, NONE),
    "mixed": (LAYER, CHANNEL, NONE),
}
"""The outcomes of matrices, in turn, where nothing is left to chance."""

CHANCE = 0.02
"""How often a matrix without BatchNorm passes the layer test. Observed on small GPT-2 and Llama."""

# The layer cosine of the steps that do not pass, in units of 1/sqrt(numel); the bound is 0.1 there.
FAILING_COSINE = 4.0

LEARNING_RATE = 1e-12
"""So small that weights stay the same to the bit, and with them the outcome. A step costs the same.
At 1e-7 a hundred steps of SGDP moved long rows beyond their bound."""


def make_weights(workload: Workload, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Weights as after initialisation: normal with deviation 0.02, vectors all ones."""
    generator = torch.Generator(device).manual_seed(0)
    return [
        torch.empty(weight.shape, device=device, dtype=dtype).normal_(0, 0.02, generator=generator)
        if len(weight.shape) > 1
        else torch.ones(weight.shape, device=device, dtype=dtype)
        for weight in workload.weights
    ]


def _set_cosine(grad: Tensor, weight: Tensor, cosine: float) -> None:
    """Give every row of ``grad`` (rows, cols) this cosine with its row of ``weight``, in place."""
    # Summed in float32: the squares of a long float16 row add up to more than float16 holds.
    pg = torch.sum(weight * grad, 1, dtype=torch.float32)
    pp = torch.sum(weight * weight, 1, dtype=torch.float32)
    gg = torch.sum(grad * grad, 1, dtype=torch.float32)
    tangential = (gg - pg * pg / pp).clamp_min(0).sqrt()
    wanted = cosine / math.sqrt(1 - cosine * cosine) * tangential / pp.sqrt()
    grad.addcmul_(weight, (wanted - pg / pp).to(grad.dtype)[:, None])


class Gradients:
    """One gradient per parameter, shared by all implementations, and what changes between steps."""

    def __init__(self, workload: Workload, weights: list[Tensor], outcome: str) -> None:
        """Draw gradients for ``weights`` that lead to ``outcome``."""
        generator = torch.Generator(weights[0].device).manual_seed(1)
        self.tensors = [torch.empty_like(w).normal_(generator=generator) for w in weights]
        self._by_chance: list[tuple[Tensor, Tensor, float]] = []
        self._passing: list[tuple[Tensor, Tensor, float]] = []
        self._changing: list[tuple[Tensor, Tensor]] = []
        self._channel_wise_now = False
        self._random = random.Random(2)
        turns = itertools.cycle(VIEWS.get(outcome, (None,)))
        for spec, weight, grad in zip(workload.weights, weights, self.tensors, strict=True):
            if grad.dim() <= 1:
                continue
            channel_wise = grad.view(len(grad), -1), weight.view(len(grad), -1)
            layer_wise = grad.view(1, -1), weight.view(1, -1)
            view = next(turns)
            if outcome == ADVERSARY:
                _set_cosine(*channel_wise, 0.5)
                self._changing.append(channel_wise)
            elif view == CHANNEL or (outcome == "natural" and spec.scale_invariant):
                _set_cosine(*channel_wise, 0.0)
            elif view == LAYER:
                # Its rows, random, fail.
                _set_cosine(*layer_wise, 0.0)
            elif view == NONE:
                _set_cosine(*channel_wise, 0.5)
            else:
                cosine = min(0.9, FAILING_COSINE / math.sqrt(grad.numel()))
                _set_cosine(*layer_wise, cosine)
                self._by_chance.append((*layer_wise, cosine))

    def next_step(self) -> None:
        """Let chance decide anew which of the other matrices pass the layer test."""
        self._channel_wise_now = not self._channel_wise_now
        for grad, weight in self._changing:
            _set_cosine(grad, weight, 0.0 if self._channel_wise_now else 0.5)
        for grad, weight, cosine in self._passing:
            _set_cosine(grad, weight, cosine)
        self._passing = [item for item in self._by_chance if self._random.random() < CHANCE]
        for grad, weight, _ in self._passing:
            _set_cosine(grad, weight, 0.0)
