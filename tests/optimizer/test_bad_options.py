"""Options outside their range: refused at construction, in a group that is added, and later."""

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from conftest import KINDS, Kind
from optimizer.spoiling import REMEDY, WRONG, fails_and_changes_nothing, ready
from parity.cases import shapes
from parity.pairs import weights
from parity.targets import Target

AT_LEAST_0 = r"(?i)(at least 0|>= ?0|non-negative|0 or)"
WITHIN_FLOAT = r"beyond the range of a float and must be within it; pass one"
TOO_LARGE = 10**400
ARRAY = np.ones(2)
FRACTION = r"(?i)(\[0(\.0)?, 1(\.0)?\)|below 1|less than 1|< ?1)"
BAD_OPTIONS = [
    *(
        (name, value, AT_LEAST_0)
        for name in ("lr", "eps", "weight_decay", "delta", "wd_ratio")
        for value in (-0.25, float("nan"))
    ),
    ("lr", torch.tensor(-0.25), AT_LEAST_0),
    ("betas", (-0.25, 0.9), FRACTION),
    ("betas", (0.9, 1.0), FRACTION),
    ("betas", (0.9,), r"two"),
    ("momentum", -0.25, AT_LEAST_0),
    ("momentum", float("inf"), r"finite"),
    ("dampening", float("nan"), r"finite"),
    ("dampening", float("inf"), r"finite"),
    ("projection", "chanel", r"'auto'.*'channel'.*'layer'.*'off'"),
    ("projection", ARRAY, r"'auto'.*'channel'.*'layer'.*'off'"),
    *(
        (name, value, WITHIN_FLOAT)
        for name in ("lr", "eps", "weight_decay", "delta", "wd_ratio", "momentum", "dampening")
        for value in (TOO_LARGE, Fraction(TOO_LARGE))
    ),
    ("betas", (TOO_LARGE, 0.9), WITHIN_FLOAT),
    ("betas", (1 - Fraction(1, TOO_LARGE), 0.9), FRACTION),
    *(
        (name, value, r"must be a number")
        for name in ("lr", "eps", "momentum")
        for value in (None, "0.1", ARRAY, torch.tensor(1.0, device="meta"), torch.tensor(1j))
    ),
    *(
        (name, value, r"must be True or False")
        for name in ("nesterov", "maximize", "capturable", "project_buffer")
        for value in ("False", torch.ones(2), ARRAY, torch.tensor(1.0, device="meta"))
    ),
]


def bad_options(kind: Kind) -> list[tuple[str, Any, str]]:
    """Those of the list that this optimizer has."""
    others = {"AdamP": ("momentum", "dampening", "project_buffer"), "SGDP": ("betas",)}[kind.name]
    return [bad for bad in BAD_OPTIONS if bad[0] not in others]


OPTIONS = [
    pytest.param(kind, *bad, id=f"{kind.name}-{bad[0]}-{str(bad[1])[:40]}")
    for kind in KINDS
    for bad in bad_options(kind)
]


def check_message(error: BaseException, name: str, value: Any, requirement: str) -> None:
    """A message names the option, its value, what is required and what to do."""
    message = str(error)
    assert name in message
    shown = value[1] if name == "betas" and 1.0 in value else value
    shown = value[0] if name == "betas" and shown is value and len(value) == 2 else shown
    # Nobody wants to read four hundred digits.
    assert repr(shown) in message or requirement is WITHIN_FLOAT
    assert re.search(requirement, message), message
    assert re.search(REMEDY, message), message


@pytest.mark.parametrize(("kind", "name", "value", "requirement"), OPTIONS)
def test_options(kind: Kind, name: str, value: Any, requirement: str) -> None:
    """An option outside its range is refused at construction and in a group that is added."""
    with pytest.raises(WRONG) as caught:
        kind.make([weights(*shapes("odd"))], **{name: value})
    check_message(caught.value, name, value, requirement)
    assert "group" not in str(caught.value)
    group = {"params": [weights(*shapes("bias"))], name: value}
    with pytest.raises(WRONG, match=r"^group 0: ") as caught:
        kind.make([dict(group), {"params": [weights(*shapes("odd"))]}])
    check_message(caught.value, name, value, requirement)
    optimizer = kind.make([weights(*shapes("odd"))])
    with pytest.raises(WRONG, match=r"^group 1: ") as caught:
        optimizer.add_param_group(group)
    check_message(caught.value, name, value, requirement)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(("kind", "name", "value", "requirement"), OPTIONS)
def test_options_set_later(
    backend: Target, kind: Kind, name: str, value: Any, requirement: str
) -> None:
    """An option that goes bad in the last group between steps stops the step before its start."""
    if isinstance(value, torch.Tensor) and backend.lr_stays_on_device:
        pytest.skip(f"{backend.label}: looking at a tensor of the device would wait for it")
    optimizer, params = ready(kind, backend)
    optimizer.step()
    optimizer.param_groups[-1][name] = value
    error = fails_and_changes_nothing(optimizer, params)
    check_message(error, name, value, requirement)
    assert str(error).startswith("group 1: ")


def test_integer_longer_than_python_prints(kind: Kind) -> None:
    """The message does not fail over its own value."""
    with pytest.raises(ValueError, match=WITHIN_FLOAT):
        kind.make([weights(*shapes("odd"))], lr=10**5000)


def test_options_of_others(backend: Target, kind: Kind) -> None:
    """A key that the optimizer does not know is the user's own, whatever others mean by it."""
    optimizer, params = ready(kind, backend)
    optimizer.step()
    name = "momentum" if kind.name == "AdamP" else "betas"
    optimizer.param_groups[0][name] = "mine"
    more = weights(*shapes("one"), device=str(params[0].device))
    optimizer.add_param_group({"params": [more], name: None})
    optimizer.step()


def test_sparse_lr(kind: Kind) -> None:
    """A tensor without a dense element is no number either."""
    with pytest.raises(TypeError, match=r"(?s)lr=tensor.*must be a number"):
        kind.make([weights(*shapes("odd"))], lr=torch.ones(1).to_sparse())


def test_option_missing(backend: Target, kind: Kind) -> None:
    """An option that is taken out of a group stops the step before its start."""
    for name in kind.make([weights(*shapes("odd"))]).defaults:
        if name in ("fused", "foreach", "differentiable"):
            continue  # ask for nothing
        optimizer, params = ready(kind, backend)
        optimizer.step()
        del optimizer.param_groups[-1][name]
        error = str(fails_and_changes_nothing(optimizer, params))
        assert re.search(f"^group 1: .*'{name}' is missing; give it", error), error


def test_numbers_of_other_types(backend: Target, kind: Kind) -> None:
    """A fraction or a tensor of one element is worth the float of it, wherever it is."""
    numbers = {"eps": 0.25, "weight_decay": 0.5, "delta": 0.25, "wd_ratio": 0.5}
    numbers |= {"momentum": 0.5, "dampening": 0.25} if kind.name == "SGDP" else {}
    results = []
    for convert in (float, Fraction, lambda x: torch.tensor([x], dtype=torch.float64)):
        optimizer, params = ready(kind, backend)
        for group in optimizer.param_groups:
            group |= {name: convert(value) for name, value in numbers.items()}
            group["lr"] = Fraction(1, 8) if convert is Fraction else 0.125
        for _ in range(2):
            optimizer.step()
        results.append([p.detach() for p in params])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state_dtype", torch.float32),
        ("master_weights", True),
        ("master_weights", "split"),
        ("stochastic_rounding", True),
    ],
)
def test_not_supported_yet(backend: Target, kind: Kind, name: str, value: Any) -> None:
    """Options of training in 16 bits are in every group, and refused, given or set later."""
    optimizer, params = ready(kind, backend)
    assert all(name in group for group in optimizer.state_dict()["param_groups"])
    with pytest.raises(ValueError, match=f"{name}=.* must be .*leave it out"):
        kind.make(params, backend, **{name: value})
    optimizer.step()
    optimizer.param_groups[1][name] = value
    assert f"group 1: {name}=" in str(fails_and_changes_nothing(optimizer, params))
