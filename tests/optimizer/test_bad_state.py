"""State that a user or a checkpoint spoilt: an error before anything has changed."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import KINDS, Kind
from optimizer.spoiling import WRONG, fails_and_changes_nothing, ready
from parity.cases import STATE_KEYS
from parity.gradients import SCRIPT
from parity.pairs import model, run
from parity.targets import Target

NO_COUNTS = [
    *("three", None, 10**400, float("nan"), -1, torch.ones(2), torch.tensor(3j)),
    *(torch.ones(1).to_sparse(), torch.tensor(3.0, device="meta")),
]
BAD_COUNTS = [
    *((key, value) for key in ("step", "view") for value in NO_COUNTS),
    *(("step", torch.tensor(value)) for value in (-3.0, float("nan"))),
]


@pytest.mark.parametrize(("key", "value"), BAD_COUNTS, ids=lambda value: str(value)[:30])
def test_count(backend: Target, kind: Kind, key: str, value: Any) -> None:
    """A count or an outcome that is none stops the step before its start."""
    if key == "step" and kind.name == "SGDP":
        pytest.skip("SGDP counts no steps")
    optimizer, params = ready(kind, backend)
    optimizer.step()
    optimizer.state[params[2] if key == "step" else params[0]][key] = value
    before = [p.detach().clone() for p in params]
    versions = [p._version for p in params]
    with pytest.raises(WRONG, match=rf"(?s)state '{key}' of .*one number.*load_state_dict"):
        optimizer.step()
    assert all(map(torch.equal, params, before))
    assert versions == [p._version for p in params]


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_count_spoilt_in_place(backend: Target, value: float) -> None:
    """So does one that is overwritten between steps: bias corrections of it are no numbers."""
    optimizer, params = ready(KINDS[0], backend)
    optimizer.step()
    optimizer.state[params[2]]["step"].fill_(value)
    with pytest.raises(ValueError, match=r"state 'step' of parameter 0 of group 1"):
        optimizer.step()
    assert [optimizer.state[p]["step"].item() for p in params[:2]] == [1, 1]
    optimizer.state[params[2]]["step"].fill_(1)
    optimizer.step()


def test_counts_of_other_types(backend: Target, kind: Kind) -> None:
    """A count may be any number and a tensor of one element of any shape."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:3])
    for pair, value in zip(pairs, (Fraction(3), torch.full((1, 1), 3.0)), strict=False):
        state = optimizer.state[pair.p]
        state |= {"view": value} if "view" in state else {}
        state |= {"step": value} if "step" in state else {}
    run(optimizer, pairs, SCRIPT[3:6])


BAD_MOMENTS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "none": (lambda m: None, "is None and must be a tensor"),
    "shape": (lambda m: m.flatten(), r"shape torch.Size\(\[40\]\)"),
    "dtype": (lambda m: m.double(), "dtype torch.float64"),
    "device": (lambda m: m.to("meta"), "device meta"),
    "sparse": (lambda m: m.to_sparse(), "layout torch.sparse_coo"),
    "expanded": (lambda m: torch.zeros_like(m[:1, :1]).expand_as(m), r"expanded.*\.clone\(\)"),
}


@pytest.mark.parametrize("what", BAD_MOMENTS)
def test_moment(backend: Target, kind: Kind, what: str) -> None:
    """A moment that does not fit its parameter stops the step before its start."""
    spoil, message = BAD_MOMENTS[what]
    for key in STATE_KEYS[kind.name]:
        optimizer, params = ready(kind, backend)
        optimizer.step()
        state = optimizer.state.pop(params[2])
        optimizer.state[params[2]] = {**state, key: spoil(state[key])}
        before = [p.detach().clone() for p in params]
        with pytest.raises(WRONG, match=rf"state '{key}' of parameter 0 of group 1 .*{message}"):
            optimizer.step()
        assert all(map(torch.equal, params, before))


@pytest.mark.parametrize("value", [None, [], [1], "x", 3], ids=repr)
def test_no_dictionary(backend: Target, kind: Kind, value: Any) -> None:
    """The state of a parameter is a dictionary."""
    optimizer, params = ready(kind, backend)
    optimizer.step()
    optimizer.state[params[2]] = value
    before = [p.detach().clone() for p in params]
    wanted = f"the state of parameter 0 of group 1 is {value!r} and must be a dictionary: load"
    with pytest.raises(TypeError, match=re.escape(wanted)):
        optimizer.step()
    assert all(map(torch.equal, params, before))


def test_state_is_a_plain_dictionary(backend: Target, kind: Kind) -> None:
    """`optimizer.state = {}` starts afresh as `optimizer.state.clear()` does."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:2])
    optimizer.state = {}
    for pair in pairs:
        pair.twin_state = {}
    run(optimizer, pairs, SCRIPT[2:4])


def test_made_under_inference_mode(backend: Target, kind: Kind) -> None:
    """State of a step under inference mode serves there, and is refused outside, as by torch."""
    optimizer, params = ready(kind, backend)
    with torch.inference_mode():
        optimizer.step()
        optimizer.step()
    for _ in range(2):
        error = str(fails_and_changes_nothing(optimizer, params))
        assert re.search(r"state '.*' of parameter 0 of group 0 .*inference_mode.*clone", error)
    for state in optimizer.state.values():
        state |= {key: value.clone() for key, value in state.items()}
    other, twins = ready(kind, backend)
    for one in (optimizer, other, other, other):
        one.step()
    assert all(map(torch.equal, params, twins))
    with torch.inference_mode():
        optimizer.step()  # ordinary tensors may be changed there
    optimizer.step()


def test_weights_made_under_inference_mode(backend: Target, kind: Kind) -> None:
    """Weights as well."""
    with torch.inference_mode():
        optimizer, params = ready(kind, backend)
        optimizer.step()
    before = [p.clone() for p in params]
    with pytest.raises(RuntimeError, match=r"^parameter 0 of group 0 .*inference_mode.*\.clone"):
        optimizer.step()
    assert all(map(torch.equal, params, before))


def test_frozen_parameter_is_left_alone(backend: Target, kind: Kind) -> None:
    """A parameter without gradient may be converted; with one again, it needs state that fits."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:2])
    frozen, others = pairs[0].p, pairs[1:]
    state = optimizer.state[frozen]
    frozen.requires_grad_(False).grad = None
    frozen.data = frozen.data.half()
    run(optimizer, others, SCRIPT[2:4])
    frozen.requires_grad_(True).grad = torch.ones_like(frozen)
    for pair in others:
        pair.p.grad = torch.ones_like(pair.p)
    before = [pair.p.detach().clone() for pair in pairs]
    with pytest.raises(ValueError, match=r"state .* of parameter 0 of group 0 has dtype"):
        optimizer.step()
    assert all(map(torch.equal, (pair.p for pair in pairs), before))
    frozen.grad = None
    frozen.data = frozen.data.float()
    assert optimizer.state[frozen] is state
    frozen.grad = torch.ones_like(frozen)
    optimizer.step()
    assert not torch.equal(frozen, before[0].float())


def test_damaged_checkpoint(backend: Target, kind: Kind) -> None:
    """What is wrong in a loaded state is said by the next step, by name."""
    optimizer, params = ready(kind, backend)
    optimizer.step()
    saved = optimizer.state_dict()
    for key, value in {"view": torch.ones(2), STATE_KEYS[kind.name][0]: None}.items():
        state = {**saved["state"], 0: {**saved["state"][0], key: value}}
        optimizer.load_state_dict({**saved, "state": state})
        before = [p.detach().clone() for p in params]
        with pytest.raises(WRONG, match=f"state '{key}' of parameter 0 of group 0 is "):
            optimizer.step()
        assert all(map(torch.equal, params, before))
    optimizer.load_state_dict({**saved, "state": {**saved["state"], 0: 3}})
    with pytest.raises(TypeError, match="state of parameter 0 of group 0 is 3"):
        optimizer.step()
    optimizer.load_state_dict(saved)
    optimizer.step()
