"""``stats=True`` as users of an optimizer meet it: names, checkpoints, skipped steps, errors."""

import copy
import math
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from adamp_fused import FusedAdamP
from adamp_fused._stats import Stat
from conftest import Kind
from messages import message
from parity.targets import Target


def network(backend: Target, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Two layers and their biases."""
    torch.manual_seed(0)
    made: nn.Module = nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 4))
    return made.to(backend.device, dtype)


def give(net: nn.Module, step: int) -> None:
    """New gradients."""
    for p in net.parameters():
        p.grad = (p.detach() * (step + 1)).cos()


def train(net: nn.Module, optimizer: Any, steps: range) -> None:
    """A step for each number."""
    for step in steps:
        give(net, step)
        optimizer.step()


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether all numbers are equal, NaN included."""
    return repr(a) == repr(b)


def test_names(backend: Target, kind: Kind) -> None:
    """Those of ``named_parameters()``; else by position, in every group."""
    net = network(backend)
    optimizer = kind.make(net.named_parameters(), backend, stats=True)
    assert optimizer.stats() == {}
    train(net, optimizer, range(1))
    assert list(optimizer.stats()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    groups = [{"params": layer.parameters()} for layer in net]
    optimizer = kind.make(groups, backend, stats=True)
    train(net, optimizer, range(1))
    assert "group 1, parameter 0" in optimizer.stats()


def test_not_asked_for(backend: Target, kind: Kind) -> None:
    """Nothing is kept, and the error says how to ask."""
    net = network(backend)
    optimizer = kind.make(net.parameters(), backend)
    train(net, optimizer, range(1))
    assert all("stats" not in state for state in optimizer.state.values())
    assert "make it with stats=True" in message(optimizer.stats)
    text = message(lambda: kind.make(net.parameters(), backend, stats="no"))
    assert "stats" in text and "True or False" in text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_checkpoint(backend: Target, kind: Kind, dtype: torch.dtype) -> None:
    """A resumed run counts on, to the bit, whatever the type of the weights."""
    net = network(backend, dtype)
    optimizer = kind.make(net.parameters(), backend, stats=True)
    train(net, optimizer, range(5))
    again = copy.deepcopy(net)
    resumed = kind.make(again.parameters(), backend, stats=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert same(resumed.stats(), optimizer.stats())
    train(net, optimizer, range(5, 9))
    train(again, resumed, range(5, 9))
    assert same(resumed.stats(), optimizer.stats())
    assert sum(resumed.stats()["group 0, parameter 0"]["outcomes"].values()) == 9


def test_loaded_statistics_are_own(kind: Kind) -> None:
    """A step of the one does not write into the state dict of the other."""
    net = network(Target("reference", "reference", "cpu"))
    optimizer = kind.make(net.parameters(), stats=True)
    train(net, optimizer, range(2))
    saved = optimizer.state_dict()
    before = saved["state"][0]["stats"].clone()
    resumed = kind.make(copy.deepcopy(net).parameters(), stats=True)
    resumed.load_state_dict(saved)
    twin = resumed.param_groups[0]["params"]
    for p in twin:
        p.grad = torch.ones_like(p)
    resumed.step()
    assert torch.equal(saved["state"][0]["stats"], before)


def test_checkpoint_without(backend: Target, kind: Kind) -> None:
    """One that has no statistics starts them; one that nobody asks for is kept as it is."""
    net = network(backend)
    plain = kind.make(net.parameters(), backend)
    train(net, plain, range(3))
    measured = kind.make(net.parameters(), backend, stats=True)
    measured.load_state_dict(plain.state_dict())
    assert measured.stats() == {}
    train(net, measured, range(3, 5))
    assert sum(measured.stats()["group 0, parameter 0"]["outcomes"].values()) == 2
    plain.load_state_dict(measured.state_dict())
    kept = plain.state[next(net.parameters())]["stats"].clone()
    train(net, plain, range(5, 7))
    assert torch.equal(plain.state[next(net.parameters())]["stats"], kept)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(backend: Target, kind: Kind, through: Any) -> None:
    """A copied optimizer goes on collecting."""
    net = network(backend)
    optimizer = kind.make(net.parameters(), backend, stats=True)
    train(net, optimizer, range(2))
    copied = through(optimizer)
    for p in copied.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    copied.step()
    assert sum(copied.stats()["group 0, parameter 0"]["outcomes"].values()) == 3
    assert sum(optimizer.stats()["group 0, parameter 0"]["outcomes"].values()) == 2


def test_skipped_step(backend: Target, kind: Kind) -> None:
    """A step that ``found_inf`` skips is none."""
    net = network(backend)
    optimizer = kind.make(net.parameters(), backend, stats=True, grad_scaling=True)
    train(net, optimizer, range(2))
    before = repr(optimizer.stats())
    give(net, 2)
    optimizer.grad_scale = torch.ones((), device=backend.device)
    optimizer.found_inf = torch.ones((), device=backend.device)
    optimizer.step()
    assert repr(optimizer.stats()) == before


def test_clipped_and_scaled(backend: Target, kind: Kind) -> None:
    """The gradient's norm is that of what the step works with."""
    net = network(backend)
    options = {"grad_scaling": True, "max_grad_norm": 0.5}
    optimizer = kind.make(net.parameters(), backend, stats=True, **options)
    give(net, 0)
    for p in net.parameters():
        p.grad *= 64
    optimizer.grad_scale = torch.full((), 64.0, device=backend.device)
    optimizer.found_inf = torch.zeros((), device=backend.device)
    optimizer.step()
    norms = [one["grad_norm"] for one in optimizer.stats().values()]
    assert math.sqrt(sum(norm**2 for norm in norms)) == pytest.approx(0.5, rel=1e-4)


def test_state_made_beforehand(backend: Target, kind: Kind) -> None:
    """``init_state()`` makes it, and it is no step."""
    net = network(backend)
    optimizer = kind.make(net.parameters(), backend, stats=True)
    optimizer.init_state()
    assert all("stats" in state for state in optimizer.state.values())
    assert optimizer.stats() == {}


@pytest.mark.parametrize("value", [1.0, torch.zeros(3), torch.zeros(len(Stat)), "much"], ids=str)
def test_spoilt(backend: Target, kind: Kind, value: Any) -> None:
    """What cannot be gone on with is told before anything has changed."""
    net = network(backend)
    optimizer = kind.make(net.parameters(), backend, stats=True)
    train(net, optimizer, range(2))
    first = next(net.parameters())
    optimizer.state[first]["stats"] = value
    before = first.detach().clone()
    give(net, 2)
    text = message(optimizer.step)
    assert text.startswith("ValueError") and "'stats'" in text and "delete it" in text
    assert torch.equal(first, before)
    del optimizer.state[first]["stats"]
    optimizer.step()
    assert sum(optimizer.stats()["group 0, parameter 0"]["outcomes"].values()) == 1


def test_fields() -> None:
    """As many as csrc/core/params.h has, in the order of its comments."""
    assert len(Stat) == 17
    assert FusedAdamP([nn.Parameter(torch.ones(2, 2))], stats=True)._measures
