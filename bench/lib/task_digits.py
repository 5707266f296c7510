"""A BatchNorm network on handwritten digits: the scale-invariant weights AdamP was made for."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SEED = 0
TEST_IMAGES = 500
BATCH = 64


def _block(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()]


class Digits:
    """scikit-learn's 1,797 digits of 8 by 8 pixels, a fixed 500 of them held out."""

    name = "digits"
    title = "BatchNorm CNN on digits"
    metric = "test accuracy"
    percent = True
    lr = 2e-3
    warm_up = 20
    weight_decay = 1e-2

    def __init__(self, device: torch.device, epochs: int = 12) -> None:
        """Load and split the images, and fix the order of the batches.

        Raises:
            ModuleNotFoundError: scikit-learn is not installed.
        """
        digits = importlib.import_module("sklearn.datasets").load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
        labels = torch.tensor(digits.target)
        generator = torch.Generator().manual_seed(SEED)
        order = torch.randperm(len(images), generator=generator)
        test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
        self._test = images[test].to(device), labels[test].to(device)
        self._train = images[train].to(device), labels[train].to(device)
        per_epoch = len(train) // BATCH
        self._batches = [
            batch.to(device)
            for _ in range(epochs)
            for batch in torch.randperm(len(train), generator=generator)[: per_epoch * BATCH].view(
                per_epoch, BATCH
            )
        ]
        self._device = device
        self.steps = len(self._batches)
        self.evaluate_every = per_epoch
        self.data = f"{len(train):,} training and {len(test)} test images, {epochs} epochs"

    def model(self) -> nn.Module:
        """Four convolutions, each with its BatchNorm, then a linear classifier."""
        torch.manual_seed(SEED)
        layers = _block(1, 32, 1) + _block(32, 64, 2) + _block(64, 64, 1) + _block(64, 128, 2)
        pooling = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)]
        return nn.Sequential(*layers, *pooling).to(self._device)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Cross entropy on one batch."""
        images, labels = self._train
        batch = self._batches[step]
        return F.cross_entropy(model(images[batch]), labels[batch])

    def evaluate(self, model: nn.Module) -> float:
        """Share of the held-out digits that are recognised."""
        images, labels = self._test
        return float((model(images).argmax(1) == labels).float().mean())
