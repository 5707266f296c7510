"""init_state() makes the whole state without a step, and steps afterwards do not notice."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import Parameter

from conftest import Kind
from optimizer.spoiling import fails_and_changes_nothing, ready
from parity.cases import STATE_KEYS, shapes
from parity.gradients import SCRIPT
from parity.pairs import model, run, weights
from parity.targets import Target


def params_of(backend: Target, dtype: torch.dtype = torch.float32) -> list[Parameter]:
    """A matrix, vectors, and one element."""
    return [
        weights(shape, dtype, backend.device) for shape in shapes("odd", "bias", "vector", "one")
    ]


def keys_of(kind: Kind, p: torch.Tensor) -> set[str]:
    """What the state of a parameter has after its first step."""
    counts = {"step"} if kind.name == "AdamP" else set()
    return {*STATE_KEYS[kind.name]} | counts | ({"view"} if p.dim() > 1 else set())


@pytest.mark.parametrize("options", [{}, {"capturable": True}, {"grad_scaling": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_whole_state(
    backend: Target, kind: Kind, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    """It is the state that a first step makes, but for its values, which are all 0."""
    if reason := backend.unavailable(capturable="capturable" in options):
        pytest.skip(reason)
    params, others = params_of(backend, dtype), params_of(backend, dtype)
    optimizer = kind.make(params, backend, weight_decay=0.1, **options)
    stepped = kind.make(others, backend, weight_decay=0.1, **options)
    versions = [p._version for p in params]
    optimizer.init_state()
    assert [p._version for p in params] == versions and all(p.grad is None for p in params)
    for p in others:
        p.grad = torch.ones_like(p)
    if "grad_scaling" in options:
        for name, value in {"grad_scale": 1.0, "found_inf": 0.0}.items():
            setattr(stepped, name, torch.tensor(value, device=backend.device))
    stepped.step()
    assert list(optimizer.state) == params
    for p, other in zip(params, others, strict=True):
        state, wanted = optimizer.state[p], stepped.state[other]
        assert set(state) == set(wanted) == keys_of(kind, p)
        for key, value in state.items():
            assert (value.dtype, value.device, value.shape, value.stride()) == (
                wanted[key].dtype,
                wanted[key].device,
                wanted[key].shape,
                wanted[key].stride(),
            )
            assert not value.any()


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_afterwards(backend: Target, kind: Kind, nesterov: bool) -> None:
    """They are those of an optimizer that was never asked to, to the bit, a late one included."""
    params, others = params_of(backend), params_of(backend)
    optimizer, fresh = (
        kind.make(its, backend, weight_decay=0.1, nesterov=nesterov) for its in (params, others)
    )
    optimizer.init_state()
    for number in range(4):
        for its in (params, others):
            for p in its:
                p.grad = (p.detach() + number).cos()
            if number < 2:
                its[2].grad = None  # has its first gradient later
        optimizer.step()
        fresh.step()
        assert all(map(torch.equal, params, others))
    for p, other in zip(params, others, strict=True):
        for key, value in fresh.state[other].items():
            assert torch.equal(optimizer.state[p][key], value)


def test_what_is_there_stays(backend: Target, kind: Kind) -> None:
    """Asked again in the middle of a run, it adds what is missing and touches nothing else."""
    optimizer, pairs = model(kind, backend)
    late = weights(*shapes("vector"), device=backend.device)
    optimizer.add_param_group({"params": [late]})
    run(optimizer, pairs, SCRIPT[:3])
    before = {p: dict(state) for p, state in optimizer.state.items()}
    values = copy.deepcopy([*before.values()])
    for _ in range(2):
        optimizer.init_state()
        for (p, state), old in zip(before.items(), values, strict=True):
            assert optimizer.state[p].keys() == state.keys()
            assert all(optimizer.state[p][key] is state[key] for key in state)
            assert all(torch.equal(state[key], old[key]) for key in state)
        assert set(optimizer.state[late]) == keys_of(kind, late)
        late = weights(*shapes("bias"), device=backend.device)
        optimizer.add_param_group({"params": [late]})
    run(optimizer, pairs, SCRIPT[3:6])


def test_without_gradients_of_their_own(kind: Kind) -> None:
    """Frozen parameters get no state, and neither do those that are yet to be made."""
    frozen = Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
    lazy = nn.LazyLinear(3)
    optimizer = kind.make([frozen, *lazy.parameters()])
    optimizer.init_state()
    assert not optimizer.state
    lazy(torch.ones(1, 2))
    optimizer.init_state()
    assert list(optimizer.state) == [lazy.weight, lazy.bias]


def test_fake(kind: Kind) -> None:
    """State of parameters without memory has none either, inside of their mode or not."""
    with FakeTensorMode():
        p = Parameter(torch.empty(3, 4))
        optimizer = kind.make([p])
    optimizer.init_state()
    assert set(optimizer.state[p]) == keys_of(kind, p)
    assert all(isinstance(value, FakeTensor) for value in optimizer.state[p].values())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda o, p: o.param_groups[1].update(eps=-1.0), "group 1: eps=-1.0"),
        (lambda o, p: setattr(p, "data", p.data.expand(3, *p.shape)), "expanded tensor"),
        (lambda o, p: p.untyped_storage().resize_(0), "has no memory"),
        (
            lambda o, p: o.state[p].update(view=-1),
            "'view' of parameter 0 of group 1 is -1 and must",
        ),
    ],
)
def test_checks_come_first(backend: Target, kind: Kind, spoil: Any, message: str) -> None:
    """What a step would refuse is refused before the first entry is made."""
    optimizer, params = ready(kind, backend)
    for p in params:
        p.grad = None
    spoil(optimizer, params[-1])
    entries = {p: dict(state) for p, state in optimizer.state.items()}
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.init_state()
    assert dict(optimizer.state) == entries


def test_a_bad_gradient_is_left_to_the_step(backend: Target, kind: Kind) -> None:
    """Gradients are of no account here: the step says what is wrong with them."""
    optimizer, params = ready(kind, backend)
    params[0].grad = torch.ones_like(params[0]).to_sparse()
    optimizer.init_state()
    assert "layout" in str(fails_and_changes_nothing(optimizer, params))
