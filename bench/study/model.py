"""A small GPT without biases, whose queries and keys are normalised head by head or not.

QK-norm (Henry et al., 2020, arXiv 2010.04245): with ``q_h = W_h x`` of head ``h``, attention sees
``q_h / rms(q_h) * gain``. Scaling ``W_h``, all rows of one head by one factor, changes nothing, and
so ``<W_h, dL/dW_h> = 0``. A single row of ``W_h`` is not scale-invariant; the whole matrix is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 64
LAYERS = 2
HEADS = 2
CONTEXT = 64

LAYER_TYPES = {
    "tokens": "token embedding",
    "positions": "position embedding",
    "q": "attention Q",
    "k": "attention K",
    "v": "attention V",
    "out": "attention out",
    "widen": "MLP in",
    "narrow": "MLP out",
    "gain": "norm gains",
    "q_gain": "QK-norm gains",
    "k_gain": "QK-norm gains",
    "head": "head",
}
"""The last part of a parameter's name: the layer type that the report lists it under."""


def layer_type(name: str) -> str:
    """The layer type of a parameter of :class:`GPT`."""
    return LAYER_TYPES[name.rpartition(".")[2]]


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape))


class Block(nn.Module):
    """Attention and a perceptron, each behind a LayerNorm and beside a shortcut."""

    def __init__(self, qk_norm: bool, heads_as_rows: bool) -> None:
        """Create the layers; see :class:`GPT`."""
        super().__init__()
        # Q, K and V apart: in one matrix V, which is not scale-invariant, would hide Q and K.
        shape = (HEADS, WIDTH // HEADS, WIDTH) if heads_as_rows else (WIDTH, WIDTH)
        self.q, self.k, self.v = _weight(*shape), _weight(*shape), _weight(WIDTH, WIDTH)
        self.out = _weight(WIDTH, WIDTH)
        self.widen, self.narrow = _weight(4 * WIDTH, WIDTH), _weight(WIDTH, 4 * WIDTH)
        self.norm1, self.norm2 = LayerNorm(WIDTH), LayerNorm(WIDTH)
        self.qk_norm = qk_norm
        if qk_norm:
            self.q_gain = nn.Parameter(torch.ones(WIDTH // HEADS))
            self.k_gain = nn.Parameter(torch.ones(WIDTH // HEADS))

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, length, WIDTH)."""
        batch, length, _ = x.shape

        def heads(weight: Tensor) -> Tensor:
            projected = F.linear(normalised, weight.view(WIDTH, WIDTH))
            return projected.view(batch, length, HEADS, -1).transpose(1, 2)

        normalised = self.norm1(x)
        q, k, v = heads(self.q), heads(self.k), heads(self.v)
        if self.qk_norm:
            q = F.rms_norm(q, self.q_gain.shape, self.q_gain)
            k = F.rms_norm(k, self.k_gain.shape, self.k_gain)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.linear(mixed.transpose(1, 2).reshape(batch, length, WIDTH), self.out)
        return x + F.linear(F.relu(F.linear(self.norm2(x), self.widen)), self.narrow)


class LayerNorm(nn.Module):
    """LayerNorm without a bias."""

    def __init__(self, width: int) -> None:
        """Create the gain."""
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., width)."""
        return F.layer_norm(x, self.gain.shape, self.gain)


class GPT(nn.Module):
    """Decoder with learned positions and a head of its own.

    Args:
        vocabulary: number of characters.
        qk_norm: whether queries and keys are normalised, head by head.
        heads_as_rows: Q and K have the shape (heads, head width, width), so that dimension 0, which
            a channel-wise projection goes by, is the head. The function is the same.
    """

    def __init__(self, vocabulary: int, qk_norm: bool, heads_as_rows: bool = False) -> None:
        """Create the layers and draw the weights, those of all shapes in the same order."""
        super().__init__()
        self.tokens = _weight(vocabulary, WIDTH)
        self.positions = _weight(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block(qk_norm, heads_as_rows) for _ in range(LAYERS)))
        self.norm = LayerNorm(WIDTH)
        self.head = _weight(vocabulary, WIDTH)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, parameter.shape[-1] ** -0.5)

    def forward(self, text: Tensor) -> Tensor:
        """text: (batch, length) -> logits (batch, length, vocabulary)."""
        x = F.embedding(text, self.tokens) + self.positions[: text.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.head)
