"""Against the official package itself: training in float64, and checkpoints in both directions."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conftest import Kind
from parity.gradients import generator
from parity.targets import Target

STEPS = 30
OPTIONS = {
    "AdamP": [{"weight_decay": 1e-2}, {"nesterov": True, "weight_decay": 1e-2}],
    "SGDP": [
        {"lr": 0.05, "weight_decay": 1e-3},
        {"lr": 0.05, "nesterov": True, "dampening": 0.1},
    ],
}
VARIANT = pytest.mark.parametrize("variant", [0, 1], ids=["plain", "nesterov"])


def network(device: str) -> nn.Module:
    """A small convolutional network with BatchNorm, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            *(nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(32, 3)),
        )
    return net.to(device, torch.float64)


def train(net: nn.Module, optimizer: Any, start: int, stop: int) -> None:
    """Steps start to stop of a run; batches depend on their number alone."""
    device = next(net.parameters()).device
    for number in range(start, stop):
        rng = generator(number)
        images = torch.randn(6, 2, 8, 8, generator=rng, dtype=torch.float64).to(device)
        labels = torch.randint(0, 3, (6,), generator=rng).to(device)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()


def values(net: nn.Module, optimizer: Any) -> list[Tensor]:
    """Weights, BatchNorm's buffers, moments and momentum buffers, in a fixed order."""
    keys = ("exp_avg", "exp_avg_sq", "momentum")
    states = [optimizer.state[p] for p in net.parameters()]
    moments = [state[key] for state in states for key in keys if key in state]
    return [*net.parameters(), *net.buffers(), *moments]


def assert_agree(ours: list[Tensor], official: list[Tensor]) -> None:
    """Demand 1e-10 everywhere."""
    assert len(ours) == len(official)
    for a, b in zip(ours, official, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def reload(optimizer: Any, source: Any, file: Path) -> Any:
    """Load source's state through a file, as a new process would."""
    torch.save(source.state_dict(), file)
    optimizer.load_state_dict(torch.load(file, weights_only=True))
    return optimizer


@VARIANT
def test_training(backend: Target, kind: Kind, variant: int) -> None:
    """30 steps on the network leave the same weights, buffers and state."""
    options, steps = OPTIONS[kind.name][variant], 6 if backend.slow else STEPS
    ours, theirs = network(backend.device), network(backend.device)
    optimizer = kind.make(ours.parameters(), backend, **options)
    official = kind.official(theirs.parameters(), **options)
    train(ours, optimizer, 0, steps)
    train(theirs, official, 0, steps)
    assert_agree(values(ours, optimizer), values(theirs, official))
    start = network(backend.device).parameters()
    moved = [(a - b).abs().max() for a, b in zip(ours.parameters(), start, strict=True)]
    assert min(moved) > 1e-3, "the test would not notice an optimizer that does nothing"
    views = {optimizer.state[p]["view"].item() for p in ours.parameters() if p.dim() > 1}
    assert 1 in views, "no convolution was projected"


@VARIANT
def test_from_official(backend: Target, kind: Kind, variant: int, tmp_path: Path) -> None:
    """A checkpoint of the official package, its integer step included, is continued."""
    options = OPTIONS[kind.name][variant]
    whole, cut = network(backend.device), network(backend.device)
    official = kind.official(whole.parameters(), **options)
    train(whole, official, 0, 6)
    first = kind.official(cut.parameters(), **options)
    train(cut, first, 0, 3)
    ours = reload(kind.make(cut.parameters(), backend), first, tmp_path / "official.pt")
    for p in cut.parameters() if kind.name == "AdamP" else ():
        assert int(ours.state[p]["step"]) == 3
    train(cut, ours, 3, 6)
    assert_agree(values(cut, ours), values(whole, official))
    for p in cut.parameters() if kind.name == "AdamP" else ():
        assert isinstance(ours.state[p]["step"], Tensor) and ours.state[p]["step"].item() == 6


@VARIANT
def test_to_official(backend: Target, kind: Kind, variant: int, tmp_path: Path) -> None:
    """A checkpoint of ours is continued by the official package."""
    options = OPTIONS[kind.name][variant]
    whole, cut = network(backend.device), network(backend.device)
    official = kind.official(whole.parameters(), **options)
    train(whole, official, 0, 6)
    first = kind.make(cut.parameters(), backend, **options)
    train(cut, first, 0, 3)
    theirs = reload(kind.official(cut.parameters()), first, tmp_path / "ours.pt")
    train(cut, theirs, 3, 6)
    assert_agree(values(cut, theirs), values(whole, official))


def test_positional_arguments(kind: Kind) -> None:
    """The order of the arguments is the official package's: changing the import is enough."""
    arguments = {
        "AdamP": (0.02, (0.8, 0.99), 1e-7, 0.3, 0.2, 0.4, True),
        "SGDP": (0.02, 0.8, 0.1, 0.3, True, 1e-7, 0.2, 0.4),
    }[kind.name]
    params = [nn.Parameter(torch.ones(2, 3))]
    ours = type(kind.make(params))(params, *arguments)
    theirs = type(kind.official(params))(params, *arguments)
    assert theirs.defaults.items() <= ours.defaults.items()
