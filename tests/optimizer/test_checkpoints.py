"""Copies and checkpoints: deepcopy, pickle, state_dict through a weights_only file."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch

from conftest import Kind
from parity.cases import STATE_KEYS, shapes
from parity.gradients import SCRIPT
from parity.pairs import Pair, model, run, weights
from parity.targets import TARGETS, Target


def through_file(state_dict: dict[str, Any]) -> dict[str, Any]:
    """A state dict written and read back without arbitrary code."""
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def copied(original: tuple, make_copy: Any, backend: Target) -> tuple[Any, list[Pair]]:
    """A copy of an optimizer, and pairs that follow the copied parameters."""
    optimizer, pairs = original
    twin = make_copy(optimizer)
    followers = []
    for pair, p in zip(pairs, twin.param_groups[0]["params"], strict=True):
        follower = Pair(pair.shape, p, pair.kind, pair.options, backend)
        follower.twin, follower.twin_state = pair.twin, dict(pair.twin_state)
        followers.append(follower)
    return twin, followers


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies(backend: Target, kind: Kind, how: str) -> None:
    """A copy has parameters, state and options of its own and goes on by itself."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:3])
    make_copy = copy.deepcopy if how == "deepcopy" else lambda x: pickle.loads(pickle.dumps(x))
    twin, followers = copied((optimizer, pairs), make_copy, backend)
    originals = [pair.p.detach().clone() for pair in pairs]
    run(twin, followers, SCRIPT[3:6])
    assert all(torch.equal(pair.p, old) for pair, old in zip(pairs, originals, strict=True))
    run(optimizer, pairs, SCRIPT[3:6])
    assert type(twin) is type(optimizer) and repr(twin) == repr(optimizer)


def test_copy_before_the_first_step(backend: Target, kind: Kind) -> None:
    """A copy of an optimizer without state is an optimizer without state."""
    twin, followers = copied(model(kind, backend), copy.deepcopy, backend)
    run(twin, followers, SCRIPT[:3])


def test_types_survive_loading(backend: Target, kind: Kind) -> None:
    """Loading converts no count and no outcome to the weights' type, and keeps every value."""
    p = weights(*shapes("odd"), torch.bfloat16, backend.device)
    p.grad = torch.ones_like(p)
    optimizer = kind.make([p], backend)
    optimizer.step()
    if kind.name == "AdamP":
        optimizer.state[p]["step"].fill_(299)  # bfloat16 cannot count this far
    optimizer.step()
    before, other = optimizer.state[p], kind.make([p], backend)
    other.load_state_dict(through_file(optimizer.state_dict()))
    loaded = other.state[p]
    assert set(loaded) == set(before)
    for key, value in before.items():
        assert loaded[key].dtype == value.dtype and torch.equal(loaded[key], value)


def test_load_into_float64(backend: Target, kind: Kind) -> None:
    """Moments of a float32 run serve float64 weights."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:3])
    doubles = [torch.nn.Parameter(pair.p.detach().double()) for pair in pairs]
    other = kind.make(doubles, backend)
    other.load_state_dict(through_file(optimizer.state_dict()))
    followers = []
    for pair, p in zip(pairs, doubles, strict=True):
        followers.append(Pair(pair.shape, p, kind.name, pair.options, backend))
    for follower in followers:
        state = other.state[follower.p]
        follower.twin_state = {key: state[key].double().cpu() for key in STATE_KEYS[kind.name]}
        follower.twin_state |= {"step": 3} if kind.name == "AdamP" else {}
    run(other, followers, SCRIPT[3:6])


def test_rolled_back(backend: Target, kind: Kind) -> None:
    """A running optimizer may load an earlier state of itself."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:2])
    saved = through_file(optimizer.state_dict())
    at_save = [dict(pair.twin_state) for pair in pairs]
    run(optimizer, pairs, SCRIPT[2:5])
    optimizer.load_state_dict(saved)
    for pair, state in zip(pairs, at_save, strict=True):
        pair.twin_state = state
    run(optimizer, pairs, SCRIPT[5:8])


def test_options_are_loaded(backend: Target, kind: Kind) -> None:
    """A state dict brings its options, which then hold."""
    options = {"lr": 0.03, "delta": 0.25, "projection": "layer", "nesterov": True}
    optimizer, pairs = model(kind, backend, **options)
    run(optimizer, pairs, SCRIPT[:2])
    other = kind.make([pair.p for pair in pairs], backend)
    other.load_state_dict(through_file(optimizer.state_dict()))
    run(other, pairs, SCRIPT[2:4])


def test_from_every_backend(backend: Target, kind: Kind) -> None:
    """A checkpoint of any backend is continued by any other."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:2])
    for target in TARGETS:
        if target.device == backend.device and not target.unavailable():
            other = kind.make([pair.p for pair in pairs], target)
            other.load_state_dict(through_file(optimizer.state_dict()))
            run(other, pairs, SCRIPT[2:4])
            optimizer = other
