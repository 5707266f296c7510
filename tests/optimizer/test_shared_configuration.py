"""Torch's words for how to step (fused, foreach, differentiable), and what its GradScaler sets."""

import pickle
import re
from typing import Any

import pytest
import torch

from conftest import Kind
from optimizer.spoiling import fails_and_changes_nothing, ready
from parity.cases import shapes
from parity.gradients import SCRIPT
from parity.pairs import model, run, weights
from parity.targets import Target

KEYS = ("fused", "foreach", "differentiable")


def so(backend: Target | None) -> bool:
    """What `fused` is."""
    return backend is None or backend.name != "reference"


@pytest.mark.parametrize("none", [False, True], ids=["said", "none"])
def test_what_is_so_anyway(backend: Target, kind: Kind, none: bool) -> None:
    """What is so may be asked for, by the optimizer and by a group, and is kept as by torch."""
    options = {"fused": so(backend), "foreach": False, "differentiable": False}
    options |= {"fused": None, "foreach": None} if none else {}
    optimizer, pairs = model(kind, backend, "odd", "bias")
    params = [pair.p for pair in pairs]
    decay = {"weight_decay": optimizer.defaults["weight_decay"]}
    optimizer = kind.make([{"params": params, **options}], backend, **decay, **options)
    run(optimizer, pairs, SCRIPT[:2])
    assert {key: optimizer.param_groups[0][key] for key in KEYS} == options
    assert {key: optimizer.defaults[key] for key in KEYS} == options


def test_torchs_defaults(kind: Kind) -> None:
    """Who says nothing finds what torch's optimizers say then."""
    group = kind.make([weights(*shapes("odd"))]).param_groups[0]
    theirs = torch.optim.AdamW([weights(*shapes("odd"))]).param_groups[0]
    assert {key: group[key] for key in KEYS} == {key: theirs[key] for key in KEYS}


@pytest.mark.parametrize("key", KEYS)
def test_what_is_not_so(backend: Target, kind: Kind, key: str) -> None:
    """What is not so is refused with the remedy: at construction, in a group, and later."""
    value = not so(backend) if key == "fused" else True
    message = (
        rf"{key}={value} must be {not value} or None with backend='{backend.name}': leave it out; "
    )
    p = weights(*shapes("odd"), device=backend.device)
    with pytest.raises(ValueError, match=f"^{message}"):
        kind.make([p], backend, **{key: value})
    with pytest.raises(ValueError, match=f"^group 0: {message}"):
        kind.make([{"params": p, key: value}], backend)
    optimizer, params = ready(kind, backend)
    optimizer.step()
    optimizer.param_groups[1][key] = value
    error = str(fails_and_changes_nothing(optimizer, params))
    assert re.match(f"group 1: {message}", error), error
    del optimizer.param_groups[1][key]  # as in a group of an older version
    optimizer.step()


def test_string(kind: Kind) -> None:
    """A string, which is true, is no flag."""
    with pytest.raises(TypeError, match=r"fused='False' must be True or False; pass"):
        kind.make([weights(*shapes("odd"))], fused="False")


@pytest.mark.parametrize("fused", [None, False, True])
@pytest.mark.parametrize("foreach", [None, False])
def test_loaded(backend: Target, kind: Kind, fused: bool | None, foreach: bool | None) -> None:
    """How the saved run was stepped is of no account to the one that loads it."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:2])
    saved = optimizer.state_dict()
    saved["param_groups"][0] |= {"fused": fused, "foreach": foreach, "differentiable": True}
    optimizer.load_state_dict(saved)
    for key in KEYS:
        assert optimizer.param_groups[0][key] is optimizer.defaults[key]
    run(optimizer, pairs, SCRIPT[2:4])
    for key in KEYS:
        del saved["param_groups"][0][key]
    optimizer.load_state_dict(saved)
    for key in KEYS:
        assert optimizer.param_groups[0][key] is optimizer.defaults[key]


def test_backend_of_a_group(backend: Target, kind: Kind) -> None:
    """A group may name the optimizer's own backend, as wrappers copy options; none is loaded."""
    optimizer, pairs = model(kind, backend)
    group = {"params": [pair.p for pair in pairs], "backend": backend.name}
    optimizer = kind.make([group], backend, weight_decay=optimizer.defaults["weight_decay"])
    run(optimizer, pairs, SCRIPT[:2])
    for saved_by in ("cpu", "reference"):
        saved = optimizer.state_dict()
        saved["param_groups"][0]["backend"] = saved_by
        optimizer.load_state_dict(saved)
        assert optimizer.param_groups[0]["backend"] == backend.name
        del optimizer.param_groups[0]["backend"]
        optimizer.load_state_dict(saved)
        assert "backend" not in optimizer.param_groups[0]
        optimizer.param_groups[0]["backend"] = backend.name
    run(optimizer, pairs, SCRIPT[2:4])


def test_unpickled_from_an_older_version(backend: Target, kind: Kind) -> None:
    """A pickled optimizer that knew none of these words goes on."""
    optimizer, _ = ready(kind, backend)
    optimizer.step()
    for options in (optimizer.defaults, *optimizer.param_groups):
        for key in KEYS:
            del options[key]
    twin = pickle.loads(pickle.dumps(optimizer))
    for group in twin.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    twin.step()
    more = weights(*shapes("one"), device=backend.device)
    twin.add_param_group({"params": [more]})


@pytest.mark.parametrize("name", ["grad_scale", "found_inf"])
def test_scaler_of_fused_optimizers(backend: Target, kind: Kind, name: str) -> None:
    """What GradScaler sets is refused, not ignored, where nobody has asked for it."""
    optimizer, params = ready(kind, backend)
    optimizer.step()
    for value in (torch.tensor(2.0), torch.tensor(0.0)):
        setattr(optimizer, name, value)
        message = str(fails_and_changes_nothing(optimizer, params))
        assert re.match(
            "grad_scale or found_inf is set on the optimizer.*use grad_scaling=True", message
        )
    setattr(optimizer, name, None)
    optimizer.step()
    delattr(optimizer, name)
    optimizer.step()


def test_scaler_is_told_so(kind: Kind) -> None:
    """An optimizer that is said to support it is refused by way of the scaler itself."""
    optimizer, scaler = scaled(kind)
    optimizer._step_supports_amp_scaling = True
    with pytest.raises(RuntimeError, match="grad_scale or found_inf is set on the optimizer"):
        scaler.step(optimizer)


def scaled(kind: Kind) -> tuple[Any, torch.amp.GradScaler]:
    """An optimizer with scaled gradients."""
    p = weights(*shapes("odd"))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(p.sin().sum()).backward()
    return kind.make([p]), scaler


def test_scaler(kind: Kind) -> None:
    """GradScaler as it is commonly used unscales and skips by itself."""
    optimizer, scaler = scaled(kind)
    twin = weights(*shapes("odd"))
    twin.grad = twin.detach().cos()
    other = kind.make([twin])
    other.step()
    scaler.step(optimizer)
    scaler.update()
    (p,) = optimizer.param_groups[0]["params"]
    assert torch.equal(p, twin)
    p.grad.fill_(float("inf"))
    scaler.scale(torch.ones(()))
    scaler.step(optimizer)
    assert torch.equal(p, twin)
