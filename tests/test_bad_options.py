"""Options outside their range: refused at construction, in a group that is added, and later."""

import re
from typing import Any

import pytest
import torch

from cases import shapes
from conftest import KINDS, Kind
from parity import weights
from spoiling import REMEDY, WRONG, fails_and_changes_nothing, ready
from targets import Target

AT_LEAST_0 = r"(?i)(at least 0|>= ?0|non-negative|0 or)"
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
    ("momentum", -0.25, FRACTION),
    ("momentum", 1.0, FRACTION),
    ("dampening", float("nan"), r"finite"),
    ("dampening", float("inf"), r"finite"),
    ("projection", "chanel", r"'auto'.*'channel'.*'layer'.*'off'"),
]


def bad_options(kind: Kind) -> list[tuple[str, Any, str]]:
    """Those of the list that this optimizer has."""
    others = {"AdamP": ("momentum", "dampening"), "SGDP": ("betas",)}[kind.name]
    return [bad for bad in BAD_OPTIONS if bad[0] not in others]


OPTIONS = [
    pytest.param(kind, *bad, id=f"{kind.name}-{bad[0]}-{bad[1]}")
    for kind in KINDS
    for bad in bad_options(kind)
]


def check_message(error: BaseException, name: str, value: Any, requirement: str) -> None:
    """A message names the option, its value, what is required and what to do."""
    message = str(error)
    assert name in message
    shown = value[0] if name == "betas" and value[0] < 0 else value
    shown = value[1] if name == "betas" and 1.0 in value else shown
    assert str(shown) in message or str(float(shown)) in message
    assert re.search(requirement, message), message
    assert re.search(REMEDY, message), message


@pytest.mark.parametrize(("kind", "name", "value", "requirement"), OPTIONS)
def test_options(kind: Kind, name: str, value: Any, requirement: str) -> None:
    """An option outside its range is refused at construction and in a group that is added."""
    with pytest.raises(WRONG) as caught:
        kind.make([weights(*shapes("odd"))], **{name: value})
    check_message(caught.value, name, value, requirement)
    optimizer = kind.make([weights(*shapes("odd"))])
    with pytest.raises(WRONG) as caught:
        optimizer.add_param_group({"params": [weights(*shapes("bias"))], name: value})
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
    check_message(fails_and_changes_nothing(optimizer, params), name, value, requirement)
