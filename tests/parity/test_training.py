"""A small real training: the loss falls, and follows the official package's."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from conftest import Kind
from parity.gradients import generator
from parity.targets import Target

OPTIONS = {"AdamP": {"lr": 3e-3, "weight_decay": 1e-2}, "SGDP": {"lr": 0.05, "weight_decay": 1e-4}}


def rings(count: int) -> tuple[Tensor, Tensor]:
    """Points on three noisy rings, an 8x8 picture of each, and the ring's number."""
    rng = generator(0)
    labels = torch.arange(count) % 3
    angle = torch.rand(count, generator=rng) * 2 * math.pi
    radius = labels + 1 + 0.1 * torch.randn(count, generator=rng)
    centre = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    grid = torch.linspace(-4, 4, 8)
    cells = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), dim=-1).view(1, 64, 2)
    pictures = torch.exp(-(cells - centre[:, None]).square().sum(-1)).view(count, 1, 8, 8)
    return pictures, labels


def network(device: str) -> nn.Module:
    """Convolution, BatchNorm, classifier: scale-invariant weights and others."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(72, 3)),
        )
    return net.to(device)


def losses(net: nn.Module, optimizer: Any, steps: int) -> list[float]:
    """Train on batches of 48 and give the loss before each step."""
    device = next(net.parameters()).device
    # The comparison is of optimizers: on a GPU no other source of differences may be louder.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    pictures, labels = (x.to(device) for x in rings(192))
    history = []
    for number in range(steps):
        batch = slice(48 * (number % 4), 48 * (number % 4) + 48)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(pictures[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


def test_loss_follows_official(backend: Target, kind: Kind) -> None:
    """Step by step nearly the same loss in float32, and at the end the task is learnt."""
    steps = 12 if backend.slow else 80
    ours, theirs = network(backend.device), network(backend.device)
    got = losses(ours, kind.make(ours.parameters(), backend, **OPTIONS[kind.name]), steps)
    want = losses(theirs, kind.official(theirs.parameters(), **OPTIONS[kind.name]), steps)
    torch.testing.assert_close(torch.tensor(got), torch.tensor(want), rtol=2e-2, atol=2e-3)
    torch.testing.assert_close(got[:10], want[:10], rtol=1e-4, atol=1e-5)
    assert got[-1] < (0.9 if backend.slow else 0.3) * got[0]
