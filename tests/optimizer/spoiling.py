"""A small optimizer to spoil, and the demand that an error leaves it as it was."""

import copy
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from conftest import Kind
from parity.cases import shapes
from parity.pairs import weights
from parity.targets import Target

WRONG = (ValueError, TypeError, RuntimeError)
REMEDY = r"(?i)\b(use|pass|set|call|convert|give|install|common|try|make|build|for example)\b"


def ready(kind: Kind, backend: Target) -> tuple[Any, list[Parameter]]:
    """Three parameters in two groups, with gradients."""
    params = [weights(shape, device=backend.device) for shape in shapes("odd", "bias", "vector")]
    for p in params:
        p.grad = torch.ones_like(p)
    return kind.make([{"params": params[:2]}, {"params": params[2:]}], backend), params


def fails_and_changes_nothing(optimizer: Any, params: list[Parameter]) -> BaseException:
    """Step, demand an error, and compare every weight and state with those before."""
    weights_before = [p.detach().clone() for p in params]
    versions = [p._version for p in params]
    state_before = {p: copy.deepcopy(s) for p, s in optimizer.state.items()}
    with pytest.raises(WRONG) as caught:
        optimizer.step()
    assert all(map(torch.equal, params, weights_before))
    assert versions == [p._version for p in params]
    assert list(optimizer.state) == list(state_before)
    for p, before in state_before.items():
        assert list(optimizer.state[p]) == list(before)
        assert all(torch.equal(optimizer.state[p][key], before[key]) for key in before)
    return caught.value
