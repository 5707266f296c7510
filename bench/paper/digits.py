"""scikit-learn's handwritten digits, and small networks on them."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

BATCH = 64
TEST_IMAGES = 500


@functools.cache
def data() -> tuple[Tensor, Tensor]:
    """1,797 images of 8 by 8 pixels in [0, 1], shape (n, 1, 8, 8), and their labels.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    loaded = importlib.import_module("sklearn.datasets").load_digits()
    images = torch.tensor(loaded.images, dtype=torch.float32).unsqueeze(1) / 16
    return images, torch.tensor(loaded.target)


@functools.cache
def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, then 500 held out; the same for every seed."""
    images, labels = data()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return images[train], labels[train], images[test], labels[test]


def batches(size: int, steps: int, seed: int, batch: int = BATCH) -> Iterator[Tensor]:
    """Indices of ``steps`` batches, without repetition within an epoch."""
    generator = torch.Generator().manual_seed(1000 + seed)
    per_epoch = size // batch
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(size, generator=generator)
        start = step % per_epoch * batch
        yield order[start : start + batch]


def bn_network(seed: int, width: int = 16) -> nn.Sequential:
    """Three convolutions, each with its BatchNorm, then a linear classifier."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    channels = 1
    for out_channels, stride in ((width, 1), (2 * width, 2), (2 * width, 2)):
        convolution = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()]
        channels = out_channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def convolutions(model: nn.Module) -> list[Tensor]:
    """The weights that a BatchNorm makes scale-invariant, channel by channel."""
    return [layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d)]


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images that are recognised; leaves the model in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())
