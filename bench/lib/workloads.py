"""The parameter lists that step time is measured on.

Every list is written out from the architecture's published description, so that neither
torchvision nor transformers is needed; ``EXPECTED`` holds the published totals to check against.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple


class Weight(NamedTuple):
    """One parameter tensor: its shape, and whether a BatchNorm follows it directly.

    A weight in front of a BatchNorm is scale invariant per channel, so its true gradient is
    orthogonal to each of its channels: that is what decides the outcome of the projection test.
    """

    shape: tuple[int, ...]
    scale_invariant: bool = False


@dataclasses.dataclass(frozen=True)
class Workload:
    """A named list of parameter tensors."""

    name: str
    title: str
    why: str
    weights: tuple[Weight, ...]

    @property
    def numel(self) -> int:
        """Number of parameters."""
        return sum(math.prod(weight.shape) for weight in self.weights)


def _batch_norm_conv(out_channels: int, in_channels: int, kernel: int) -> list[Weight]:
    """A bias-free convolution, then BatchNorm's scale and shift."""
    shape = (out_channels, in_channels, kernel, kernel)
    return [Weight(shape, scale_invariant=True), Weight((out_channels,)), Weight((out_channels,))]


def _linear(out_features: int, in_features: int) -> list[Weight]:
    """A linear layer as torch stores it, (out, in), with its bias."""
    return [Weight((out_features, in_features)), Weight((out_features,))]


def _norm(features: int) -> list[Weight]:
    """LayerNorm's scale and shift."""
    return [Weight((features,)), Weight((features,))]


def _resnet(blocks: tuple[int, ...], expansion: int) -> tuple[Weight, ...]:
    """ResNet for ImageNet; ``expansion`` 1 is the basic block (18, 34), 4 the bottleneck (50+)."""
    weights = _batch_norm_conv(64, 3, 7)
    channels = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(count):
            if expansion == 1:
                weights += _batch_norm_conv(width, channels, 3) + _batch_norm_conv(width, width, 3)
            else:
                weights += _batch_norm_conv(width, channels, 1) + _batch_norm_conv(width, width, 3)
                weights += _batch_norm_conv(width * expansion, width, 1)
            if block == 0 and channels != width * expansion:
                weights += _batch_norm_conv(width * expansion, channels, 1)
            channels = width * expansion
    return tuple(weights + _linear(1000, channels))


def _vit_b16() -> tuple[Weight, ...]:
    """Vision transformer, base size, patches of 16, images of 224, 1,000 classes."""
    width, patches = 768, (224 // 16) ** 2
    weights = [Weight((1, 1, width)), Weight((1, patches + 1, width))]
    weights += [Weight((width, 3, 16, 16)), Weight((width,))]
    for _ in range(12):
        weights += _norm(width) + _linear(3 * width, width) + _linear(width, width)
        weights += _norm(width) + _linear(4 * width, width) + _linear(width, 4 * width)
    return tuple(weights + _norm(width) + _linear(1000, width))


def _gpt2() -> tuple[Weight, ...]:
    """GPT-2 124M with its head tied to the embedding.

    Weights are stored (out, in), as ``nn.Linear`` does and as today's re-implementations have
    them. The original stores the transpose, (in, out), and so has other channels but the same
    elements.
    """
    width = 768
    weights = [Weight((50257, width)), Weight((1024, width))]
    for _ in range(12):
        weights += _norm(width) + _linear(3 * width, width) + _linear(width, width)
        weights += _norm(width) + _linear(4 * width, width) + _linear(width, 4 * width)
    return tuple(weights + _norm(width))


def _llama(layers: int) -> tuple[Weight, ...]:
    """Llama-style decoder of 1.3 B parameters at 24 layers: RMSNorm, no biases, untied head."""
    width, hidden, vocabulary = 2048, 5504, 32000
    weights = [Weight((vocabulary, width))]
    for _ in range(layers):
        weights += [Weight((width, width))] * 4
        weights += [Weight((hidden, width)), Weight((hidden, width)), Weight((width, hidden))]
        weights += [Weight((width,))] * 2
    return (*weights, Weight((width,)), Weight((vocabulary, width)))


LLAMA_LAYERS = 24


def llama(layers: int = LLAMA_LAYERS) -> Workload:
    """The 1.3 B model, or its first ``layers`` layers where memory does not hold them all."""
    title = "Llama 1.3B" + (f", {layers} of {LLAMA_LAYERS} layers" if layers < LLAMA_LAYERS else "")
    return Workload("llama-1.3b", title, "billions of parameters, few tensors", _llama(layers))


def _llama_per_layer() -> int:
    return llama(2).numel - llama(1).numel


def shrink(workload: Workload, most: int) -> Workload | None:
    """The same architecture with at most ``most`` parameters; None when there is no such thing."""
    if workload.numel <= most:
        return workload
    if workload.name == "llama-1.3b":
        layers = (most - llama(0).numel) // _llama_per_layer()
        return llama(layers) if layers >= 1 else None
    return None


def uniform(count: int, *shape: int) -> Workload:
    """``count`` tensors of one shape."""
    size = " x ".join(map(str, shape))
    name = f"{count}x" + "x".join(map(str, shape)) if count > 1 else "x".join(map(str, shape))
    title = f"{count:,} tensors of {size}" if count > 1 else f"one tensor of {size}"
    return Workload(name, title, "synthetic", (Weight(shape),) * count)


def _resnet18() -> Workload:
    why = "small BatchNorm network; every convolution is projected"
    return Workload("resnet18", "ResNet-18", why, _resnet((2, 2, 2, 2), 1))


def _resnet50() -> Workload:
    why = "161 tensors of very different sizes"
    return Workload("resnet50", "ResNet-50", why, _resnet((3, 4, 6, 3), 4))


def _build_vit() -> Workload:
    return Workload("vit-b16", "ViT-B/16", "large even matrices, nothing projected", _vit_b16())


def _build_gpt2() -> Workload:
    why = "a third of the parameters in one embedding of 50,257 rows"
    return Workload("gpt2-124m", "GPT-2 124M", why, _gpt2())


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "resnet18": _resnet18,
    "resnet50": _resnet50,
    "vit-b16": _build_vit,
    "gpt2-124m": _build_gpt2,
    "llama-1.3b": llama,
    "1000x16x16": lambda: uniform(1000, 16, 16),
    "4096x4096": lambda: uniform(1, 4096, 4096),
}

GPU_ONLY = {"llama-1.3b": "too large for a quick CPU run; ask with --workloads llama-1.3b"}
"""Workloads that a CPU run leaves out unless they are asked for by name, and why."""

EXPECTED: dict[str, tuple[int, int]] = {
    "resnet18": (62, 11_689_512),
    "resnet50": (161, 25_557_032),
    "vit-b16": (152, 86_567_656),
    "gpt2-124m": (148, 124_439_808),
    "llama-1.3b": (219, 1_345_423_360),
    "1000x16x16": (1000, 256_000),
    "4096x4096": (1, 16_777_216),
}
"""Published number of tensors and of parameters, by workload."""


def check() -> None:
    """Compare every list with its published totals.

    Raises:
        ValueError: a list has another number of tensors or parameters than published.
    """
    for name, build in WORKLOADS.items():
        workload = build()
        found = (len(workload.weights), workload.numel)
        if found != EXPECTED[name]:
            raise ValueError(f"{name} has (tensors, parameters) {found}, not {EXPECTED[name]}")
