"""Small networks, and for each weight what is known of it by mathematics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


class Block(nn.Module):
    """A residual block whose last BatchNorm begins at 0, as is usual."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.shortcut = nn.Conv2d(3, 8, 1)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions beside a shortcut without a BatchNorm."""
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class Attention(nn.Module):
    """A block of a transformer with QK-norm, in whose other weights nothing is invariant."""

    def __init__(self, d: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(d)
        self.q, self.k, self.v = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.q_norm, self.k_norm = nn.RMSNorm(d // heads), nn.RMSNorm(d // heads)
        self.out = nn.Linear(d, d)
        self.mlp = nn.Sequential(
            nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Pre-norm attention and MLP."""

        def split(y: Tensor) -> Tensor:
            return y.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

        y = self.norm(x)
        q, k = self.q_norm(split(self.q(y))), self.k_norm(split(self.k(y)))
        mixed = F.scaled_dot_product_attention(q, k, split(self.v(y)))
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(x)


class Tied(nn.Module):
    """A language model whose head is its embedding, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.dropout = nn.Dropout(0.1)
        self.block = Attention()
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of each token."""
        return self.head(self.block(self.dropout(self.embedding(tokens))))


class Twice(nn.Module):
    """One linear layer and one BatchNorm, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.head = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        """A recurrent network of two steps."""
        return self.head(self.norm(self.linear(F.relu(self.norm(self.linear(x))))))


class CosineHead(nn.Module):
    """Cosines between features and class weights."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(8, 6, bias=False)
        self.classes = nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        """Scaled cosines."""
        return 10 * F.linear(F.normalize(self.features(x)), F.normalize(self.classes))


class Detached(nn.Module):
    """Divided by a norm that gradients do not see."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        """The output does not change with the scale of the weight."""
        return x @ (self.weight / self.weight.detach().norm()).T


def conv_norm(norm: Callable[[], nn.Module], bias: bool) -> nn.Module:
    """A convolution of 8 channels before a normalization, and a head."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=bias), norm(), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)
    )


def frozen() -> nn.Module:
    """A weight that is not trained."""
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4))
    model[0].weight.requires_grad_(False)
    return model


def images() -> Tensor:
    """A batch of images."""
    return torch.randn(8, 3, 8, 8)


def vectors() -> Tensor:
    """A batch of vectors."""
    return torch.randn(16, 8)


def tokens() -> Tensor:
    """A batch of two texts."""
    return torch.randint(0, 20, (2, 8))


#: Name, model, inputs, and of each weight: what is invariant, and what to set.
NETWORKS: list[tuple[str, Callable[[], nn.Module], Callable[[], Any], dict[str, str]]] = [
    (
        "BatchNorm removes the bias as well",
        lambda: conv_norm(lambda: nn.BatchNorm2d(8), bias=True),
        images,
        {"0.weight": "channel channel", "4.weight": "none off"},
    ),
    (
        "one channel in each group",
        lambda: conv_norm(lambda: nn.GroupNorm(8, 8), bias=True),
        images,
        {"0.weight": "channel channel", "4.weight": "none off"},
    ),
    (
        "one group, and groups of two",
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False),
            nn.GroupNorm(1, 8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, bias=False),
            nn.GroupNorm(4, 8),
        ),
        images,
        {"0.weight": "layer layer", "3.weight": "layer layer"},
    ),
    (
        "a residual block with a BatchNorm that begins at 0",
        Block,
        images,
        {
            "conv1.weight": "channel channel",
            "conv2.weight": "channel channel",
            "shortcut.weight": "none off",
        },
    ),
    (
        "tied embeddings and QK-norm",
        Tied,
        tokens,
        {
            "embedding.weight": "none off",
            "block.q.weight": "layer layer",
            "block.k.weight": "layer layer",
            "block.v.weight": "none off",
            "block.out.weight": "none off",
            "block.mlp.1.weight": "none off",
            "block.mlp.3.weight": "none off",
        },
    ),
    (
        "weight norm",
        lambda: nn.Sequential(weight_norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 4)),
        vectors,
        {
            "0.parametrizations.weight.original0": "none off",
            "0.parametrizations.weight.original1": "channel channel",
            "2.weight": "none off",
        },
    ),
    (
        "a frozen weight",
        frozen,
        vectors,
        {"0.weight": "unknown auto", "2.weight": "none off"},
    ),
    (
        "a shared module",
        Twice,
        vectors,
        {"linear.weight": "channel channel", "head.weight": "none off"},
    ),
    (
        "cosines",
        CosineHead,
        vectors,
        {"features.weight": "layer layer", "classes": "channel channel"},
    ),
    (
        "a plain MLP",
        lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)),
        vectors,
        {"0.weight": "none off", "2.weight": "none off"},
    ),
    ("a detached norm", Detached, vectors, {"weight": "none off"}),
]
