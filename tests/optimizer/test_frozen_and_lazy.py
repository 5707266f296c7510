"""Parameters that no gradient reaches may be anything, and those that are yet to be made."""

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import Parameter
from torch.testing._internal.two_tensor import TwoTensor

from conftest import Kind
from optimizer.spoiling import fails_and_changes_nothing
from parity.gradients import SCRIPT
from parity.pairs import model, run
from parity.targets import Target


def frozen(data: torch.Tensor) -> Parameter:
    """A parameter without gradient."""
    return Parameter(data, requires_grad=False)


ONES = torch.ones(3, 4)
ANYTHING: dict[str, Any] = {
    "int8": lambda: frozen(ONES.to(torch.int8)),
    "uint8": lambda: frozen(ONES.to(torch.uint8)),
    "bool": lambda: frozen(ONES.to(torch.bool)),
    "float8": lambda: frozen(ONES.to(torch.float8_e4m3fn)),
    "complex64": lambda: frozen(ONES.to(torch.complex64)),
    "sparse": lambda: frozen(ONES.to_sparse()),
    "expanded": lambda: frozen(torch.ones(1, 4).expand(3, 4)),
    "wrapped": lambda: frozen(TwoTensor(ONES.clone(), ONES.clone())),
    "meta": lambda: frozen(ONES.to("meta")),
}


@pytest.mark.parametrize("what", ANYTHING)
def test_frozen(backend: Target, kind: Kind, what: str) -> None:
    """Beside what is trained there may be frozen parameters of any kind, at every step."""
    optimizer, pairs = model(kind, backend)
    other = ANYTHING[what]()
    optimizer.param_groups[0]["params"].insert(1, other)
    optimizer.add_param_group({"params": [ANYTHING[what]()]})
    run(optimizer, pairs, SCRIPT[:2])
    assert other not in optimizer.state
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(optimizer, pairs, SCRIPT[2:4])


@pytest.mark.parametrize("what", ANYTHING)
def test_frozen_at_construction(kind: Kind, what: str) -> None:
    """They are taken together with the others, and alone."""
    kind.make([ANYTHING[what](), Parameter(ONES.clone())])
    kind.make([ANYTHING[what]()]).step()


def test_frozen_gets_a_gradient(backend: Target, kind: Kind) -> None:
    """A gradient makes a parameter one that has to fit."""
    optimizer, pairs = model(kind, backend)
    wrong = frozen(torch.ones(3, 4, dtype=torch.complex64, device=backend.device))
    optimizer.add_param_group({"params": [wrong]})
    run(optimizer, pairs, SCRIPT[:2])
    wrong.requires_grad_(True).grad = torch.ones_like(wrong)
    error = str(fails_and_changes_nothing(optimizer, [pair.p for pair in pairs]))
    assert re.match(r"parameter 0 of group 1 has dtype torch.complex64; .*convert it", error)
    wrong.grad = None
    run(optimizer, pairs, SCRIPT[2:4])


def test_lazy(backend: Target, kind: Kind) -> None:
    """Uninitialized parameters are skipped until they are made, and then followed."""
    lazy = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.Tanh()).to(backend.device)
    plain = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh()).to(backend.device)
    first, twin = (nn.Linear(2, 3).to(backend.device) for _ in range(2))
    twin.load_state_dict(first.state_dict())
    optimizer = kind.make([*first.parameters(), *lazy.parameters()], backend)
    other = kind.make([*twin.parameters()], backend)
    rows = torch.arange(8.0, device=backend.device).reshape(4, 2).sin()
    for layer, its in ((first, optimizer), (twin, other)):
        layer(rows).square().sum().backward()
        its.step()
        its.zero_grad()
    assert all(map(torch.equal, first.parameters(), twin.parameters()))
    copy.deepcopy(optimizer.state_dict())
    with torch.no_grad():
        lazy(first(rows))
    plain.load_state_dict(lazy.state_dict())
    other.add_param_group({"params": [*plain.parameters()]})
    for _ in range(2):
        for layers, its in (((first, lazy), optimizer), ((twin, plain), other)):
            its.zero_grad()
            (layers[1](layers[0](rows)) + 1).pow(3).sum().backward()
            its.step()
    assert all(map(torch.equal, first.parameters(), twin.parameters()))
    assert all(map(torch.equal, lazy.parameters(), plain.parameters()))
    assert all(p in optimizer.state for p in lazy.parameters())
