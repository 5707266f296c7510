"""State is made when needed; parameters, data and state may be exchanged between steps."""

from typing import Any

import pytest
import torch

from conftest import Kind
from parity.cases import DECAY, STATE_KEYS, shapes
from parity.gradients import SCRIPT
from parity.pairs import Pair, model, run, weights
from parity.targets import Target


def test_lazy(backend: Target, kind: Kind) -> None:
    """State comes with the first gradient, under the official package's keys and no others."""
    optimizer, pairs = model(kind, backend)
    optimizer.step()
    assert len(optimizer.state) == 0
    _ = optimizer.state[pairs[0].p]  # a look at it makes an empty entry, as in any torch optimizer
    run(optimizer, pairs, SCRIPT[:2])
    for pair in pairs:
        state, keys = optimizer.state[pair.p], {*STATE_KEYS[kind.name]}
        keys |= {"step"} if kind.name == "AdamP" else set()
        assert set(state) == keys | ({"view"} if pair.p.dim() > 1 else set())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_step_is_a_tensor(backend: Target, dtype: torch.dtype) -> None:
    """`step` is a 0-dim tensor on the CPU, float64 beside float64 weights, else float32."""
    import adamp_fused

    p = weights(*shapes("odd"), dtype, backend.device)
    p.grad = torch.ones_like(p)
    optimizer = adamp_fused.FusedAdamP([p], backend=backend.name)
    optimizer.step()
    step = optimizer.state[p]["step"]
    assert step.shape == () and step.device.type == "cpu" and step.item() == 1
    assert step.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_versions_move(backend: Target, kind: Kind) -> None:
    """Autograd sees every tensor that a step changes, so a stale graph is refused."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:1])
    changed = [pair.p for pair in pairs]
    changed += [optimizer.state[p][key] for p in list(changed) for key in STATE_KEYS[kind.name]]
    for outcome in SCRIPT[1:4]:
        versions = [x._version for x in changed]
        stale = pairs[0].p.square().sum()
        run(optimizer, pairs, (outcome,))
        assert all(x._version > old for x, old in zip(changed, versions, strict=True))
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            stale.backward()


def test_parameter_swapped_in_its_group(backend: Target, kind: Kind) -> None:
    """A parameter exchanged in `param_groups` starts afresh; the others go on."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:3])
    old, (new,) = pairs[0], model(kind, backend, "odd")[1]
    frozen = old.p.detach().clone()
    optimizer.param_groups[0]["params"][0] = new.p
    old.p.grad = torch.ones_like(old.p)
    run(optimizer, [new, pairs[1]], SCRIPT[3:6])
    assert torch.equal(old.p, frozen)


def test_data_swapped(backend: Target, kind: Kind) -> None:
    """`p.data = ...` moves the weights elsewhere: the step follows, the old memory stays."""
    optimizer, pairs = model(kind, backend)
    for outcome in SCRIPT[:4]:
        old = [pair.p.data for pair in pairs]
        for pair in pairs:
            pair.p.data = pair.p.data.clone()
        copies = [data.clone() for data in old]
        run(optimizer, pairs, (outcome,))
        assert all(map(torch.equal, old, copies))


def test_state_cleared(backend: Target, kind: Kind) -> None:
    """After `state.clear()` training starts afresh, its count and moments included."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:3])
    optimizer.state.clear()
    for pair in pairs:
        pair.twin_state = {}
    run(optimizer, pairs, SCRIPT[3:6])


@pytest.mark.parametrize("in_place", [True, False])
def test_state_replaced(backend: Target, kind: Kind, in_place: bool) -> None:
    """State that a user overwrites or replaces, the step count too, is what the next step reads."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:3])
    values: dict[str, Any] = dict.fromkeys(STATE_KEYS[kind.name], 0.25)
    values |= {"step": 11.0} if kind.name == "AdamP" else {}
    for pair in pairs:
        state = optimizer.state[pair.p]
        for key, value in values.items():
            if in_place:
                state[key].fill_(value)
            else:
                state[key] = torch.full_like(state[key], value)
            pair.twin_state[key] = value if key == "step" else torch.full_like(pair.twin, value)
    run(optimizer, pairs, SCRIPT[3:6])


def test_two_optimizers_on_one_parameter(backend: Target, kind: Kind) -> None:
    """Two optimizers that take turns on the same parameter keep their states apart."""
    first, (one,) = model(kind, backend, "odd")
    second = kind.make([one.p], backend, **DECAY)
    two = Pair(one.shape, one.p, kind.name, one.options, backend)
    for outcome in SCRIPT[:3]:
        run(first, [one], (outcome,))
        two.twin = one.p.detach().double().cpu()
        run(second, [two], (outcome,))
        one.twin = one.p.detach().double().cpu()
