"""GradScaler: what it leaves on the optimizer is obeyed, and a skipped step changes nothing."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conftest import Kind
from parity.cases import DECAY
from parity.gradients import SCRIPT
from parity.pairs import model, run
from parity.targets import Target

SCALE = 2.0**10  # of two, so that what is scaled and unscaled is what it was


def scaled(kind: Kind, backend: Target, **options: Any) -> tuple[Any, list[Any]]:
    """An optimizer that unscales by itself, with its pairs."""
    _, pairs = model(kind, backend, **options)
    options = DECAY | options | {"grad_scaling": True}
    return kind.make([pair.p for pair in pairs], backend, **options), pairs


def tell(optimizer: Any, backend: Target, scale: float | None, found: float) -> None:
    """Set what GradScaler sets."""
    tensor = torch.tensor(found, device=backend.device)
    optimizer.grad_scale = None if scale is None else torch.tensor(scale, device=backend.device)
    optimizer.found_inf = tensor


def advance(optimizer: Any, pairs: list[Any], outcome: int, scale: float) -> None:
    """Gradients that lead to an outcome once they are unscaled."""
    for pair in pairs:
        pair.advance(outcome, optimizer.state.get(pair.p, {}))
        pair.p.grad.mul_(scale)


def everything(optimizer: Any, pairs: list[Any]) -> list[Tensor]:
    """All that a step may write, and the gradients."""
    tensors = [x for pair in pairs for x in (pair.p.detach(), pair.p.grad)]
    states = [optimizer.state[pair.p] for pair in pairs]
    return tensors + [value for state in states for value in state.values()]


def check(optimizer: Any, pairs: list[Any], scale: float) -> None:
    """Compare with the oracle, which knows of no scale."""
    for pair in pairs:
        scaled_grad = pair.p.grad.clone()
        pair.p.grad.div_(scale)
        pair.check(optimizer.state[pair.p], "scaled")
        pair.p.grad.copy_(scaled_grad)


@pytest.mark.parametrize("options", [{}, {"maximize": True}, {"nesterov": True}], ids=str)
def test_unscaled_as_they_are_read(backend: Target, kind: Kind, options: dict[str, Any]) -> None:
    """Values, sums and tests are those of the unscaled gradients, which stay as they are."""
    optimizer, pairs = scaled(kind, backend, **options)
    for outcome in backend.script[:7]:
        advance(optimizer, pairs, outcome, SCALE)
        before = [pair.p.grad.clone() for pair in pairs]
        tell(optimizer, backend, SCALE, 0.0)
        optimizer.step()
        assert all(torch.equal(pair.p.grad, g) for pair, g in zip(pairs, before, strict=True))
        check(optimizer, pairs, SCALE)
    assert optimizer.steps_skipped.item() == 0


def test_norms_beside_eps(backend: Target, kind: Kind) -> None:
    """The clamp of the cosine is that of the unscaled gradient, in rows of every length."""
    results = []
    for scale in (None, SCALE):
        torch.manual_seed(0)
        shapes = ((40, 3), (40, 1), (40, 67), (9, 31))
        params = [nn.Parameter(torch.randn(shape).to(backend.device)) for shape in shapes]
        optimizer = kind.make(params, backend, grad_scaling=True, eps=1e-3, delta=0.5)
        for step in range(4):
            for p in params:
                p.grad = torch.randn(p.shape).to(p.device) * 10.0 ** (-2 - step)
                p.grad.mul_(scale or 1)
            if scale:
                tell(optimizer, backend, scale, 0.0)
            optimizer.step()
        results.append(
            [*(p.detach() for p in params), *(optimizer.state[p]["view"] for p in params)]
        )
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("with_scale", [True, False], ids=["scaled", "after unscale_"])
def test_skipped(backend: Target, kind: Kind, with_scale: bool) -> None:
    """A step with found_inf changes nothing; those around it are what they are without it."""
    optimizer, pairs = scaled(kind, backend)
    scale = SCALE if with_scale else 1.0
    made = 0
    for number, outcome in enumerate(backend.script[:6]):
        if number in (1, 2, 4):
            before = [x.clone() for x in everything(optimizer, pairs)]
            grads = [pair.p.grad.clone() for pair in pairs]
            for pair in pairs:
                pair.p.grad.fill_(float("inf"))
            tell(optimizer, backend, scale if with_scale else None, 2.0)
            optimizer.step()
            for pair, grad in zip(pairs, grads, strict=True):
                pair.p.grad.copy_(grad)
            assert all(map(torch.equal, everything(optimizer, pairs), before))
            continue
        advance(optimizer, pairs, outcome, scale)
        tell(optimizer, backend, scale if with_scale else None, 0.0)
        optimizer.step()
        made += 1
        check(optimizer, pairs, scale)
    assert optimizer.steps_skipped.item() == 3
    for pair in pairs if kind.name == "AdamP" else ():
        assert optimizer.state[pair.p]["step"].item() == made


def test_skipped_first(backend: Target, kind: Kind) -> None:
    """The very first step may be skipped: the state is made, and is zero."""
    optimizer, pairs = scaled(kind, backend)
    for pair in pairs:
        pair.p.grad = torch.full_like(pair.p, float("nan"))
    tell(optimizer, backend, SCALE, 1.0)
    optimizer.step()
    for pair in pairs:
        assert all(not value.any() for value in optimizer.state[pair.p].values())
    del optimizer.grad_scale, optimizer.found_inf
    run(optimizer, pairs, SCRIPT[:3])


def test_without_scaler(backend: Target, kind: Kind) -> None:
    """An optimizer that could unscale steps as any other where nobody asks it to."""
    optimizer, pairs = scaled(kind, backend)
    run(optimizer, pairs, SCRIPT[:3])


def test_scale_of_any_value(backend: Target, kind: Kind) -> None:
    """A scale that is no power of two has its inverse rounded as GradScaler rounds it."""
    results = []
    for by_scaler in (False, True):
        optimizer, pairs = scaled(kind, backend)
        for step in range(3):
            for pair in pairs:
                pair.p.grad = 3.7 * (pair.p.detach() + step).cos()
                if by_scaler:
                    pair.p.grad.mul_(1 / torch.tensor(3.7, dtype=torch.float64).float().double())
            tell(optimizer, backend, None if by_scaler else 3.7, 0.0)
            optimizer.step()
        results.append([pair.p.detach().double() for pair in pairs])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def train(optimizer: Any, net: nn.Module, device: str) -> list[Tensor]:
    """Ten steps under a GradScaler, some of whose gradients are infinite."""
    scaler = torch.amp.GradScaler(device, init_scale=2.0**8, growth_interval=3)
    inputs = torch.randn(16, 6, generator=torch.Generator().manual_seed(1)).to(device)
    for step in range(10):
        optimizer.zero_grad()
        loss = net(inputs).square().mean()
        scaler.scale(loss).backward()
        if step in (2, 3, 7):
            next(net.parameters()).grad[0, 0] = float("inf")
        if step % 2:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    return [p.detach() for p in net.parameters()]


def test_training_with_scaler(backend: Target, kind: Kind) -> None:
    """A loop with injected infinities comes to what it comes to with the official package."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)).to(backend.device)
    twin, waiting = copy.deepcopy(net), copy.deepcopy(net)
    options = {"weight_decay": 0.1, "lr": 0.05}
    optimizer = kind.make(net.parameters(), backend, grad_scaling=True, **options)
    got = train(optimizer, net, backend.device)
    assert optimizer.steps_skipped.item() == 3
    waited = train(kind.make(waiting.parameters(), backend, **options), waiting, backend.device)
    want = train(kind.official(twin.parameters(), **options), twin, backend.device)
    for mine, other, official in zip(got, waited, want, strict=True):
        assert torch.allclose(mine, other, rtol=1e-5, atol=1e-6)
        assert torch.allclose(mine, official, rtol=1e-4, atol=1e-5)


def test_kept_through_pickle_and_copy(backend: Target, kind: Kind) -> None:
    """What is made for a GradScaler still is after a round trip, its count beside the weights."""
    optimizer, pairs = scaled(kind, backend)
    run(optimizer, pairs, SCRIPT[:1])
    for other in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        assert other._step_supports_amp_scaling
        for state in other.state.values():
            assert all(value.device.type == backend.device for value in state.values())
    assert not getattr(kind.make([pairs[0].p], backend), "_step_supports_amp_scaling", False)


def test_loads_checkpoint_without_it(backend: Target, kind: Kind) -> None:
    """A count that was kept on the host is brought to the weights."""
    plain, pairs = model(kind, backend, **{})
    run(plain, pairs, SCRIPT[:2])
    optimizer = kind.make([pair.p for pair in pairs], backend, grad_scaling=True, **DECAY)
    optimizer.load_state_dict(plain.state_dict())
    run(optimizer, pairs, SCRIPT[2:4])


@pytest.mark.parametrize(
    "value",
    [4.0, torch.tensor(4.0, dtype=torch.float64), torch.ones(2)],
    ids=["number", "float64", "two"],
)
@pytest.mark.parametrize("name", ["grad_scale", "found_inf"])
def test_unusable(kind: Kind, name: str, value: Any) -> None:
    """What GradScaler would not set is refused by name, with a way out."""
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = kind.make([p], grad_scaling=True)
    setattr(optimizer, name, value)
    with pytest.raises(TypeError, match=f"{name} is .*float32 tensor of one element.*use torch"):
        optimizer.step()
    assert torch.equal(p, torch.ones(3)) and not optimizer.state


def test_no_flag(kind: Kind) -> None:
    """A flag that is a word is refused."""
    with pytest.raises(TypeError, match="grad_scaling='yes' must be True or False"):
        kind.make([nn.Parameter(torch.ones(3))], grad_scaling="yes")
