"""Averages of the weights beside an optimizer: SWA with its schedule, and EMA."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn

from conftest import Kind
from parity.targets import Target
from parity.test_training import OPTIONS, network, rings

DECAY = 0.8
STEPS = 4


def train(net: nn.Module, optimizer: Any, scheduler: Any, average: AveragedModel | None) -> list:
    """Steps that are averaged; the weights after each."""
    pictures, labels = (x.to(next(net.parameters()).device) for x in rings(48))
    history = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(net(pictures), labels).backward()
        optimizer.step()
        scheduler.step()
        if average is not None:
            average.update_parameters(net)
        history.append([p.detach().double().clone() for p in net.parameters()])
    return history


def mean_of(history: list[list[Tensor]]) -> list[Tensor]:
    """What SWA says that it is."""
    return [torch.stack(values).mean(0) for values in zip(*history, strict=True)]


def ema_of(history: list[list[Tensor]]) -> list[Tensor]:
    """What an exponential average is, of which the first is the start."""
    average = history[0]
    for values in history[1:]:
        average = [DECAY * a + (1 - DECAY) * v for a, v in zip(average, values, strict=True)]
    return average


@pytest.mark.parametrize(
    ("how", "tensor"), [("SWA", False), ("EMA", True)], ids=["SWA, lr a number", "EMA, a tensor"]
)
def test_averages(backend: Target, kind: Kind, how: str, tensor: bool) -> None:
    """The average is that of the weights after each step, and averaging disturbs no step."""
    options = dict(OPTIONS[kind.name])
    lr = options.pop("lr")
    histories, rates = [], []
    for averaged in (False, True):
        net = network(backend.device)
        optimizer = kind.make(
            net.parameters(), backend, lr=torch.tensor(lr) if tensor else lr, **options
        )
        scheduler = SWALR(optimizer, swa_lr=lr / 4, anneal_epochs=3)
        ema = get_ema_multi_avg_fn(DECAY) if how == "EMA" else None
        average = AveragedModel(net, multi_avg_fn=ema) if averaged else None
        histories.append(train(net, optimizer, scheduler, average))
        rates.append(float(optimizer.param_groups[0]["lr"]))
    assert rates == [pytest.approx(lr / 4)] * 2
    for without, beside in zip(*histories, strict=True):
        assert all(map(torch.equal, without, beside))
    want = (ema_of if how == "EMA" else mean_of)(histories[0])
    got = [p.detach().double() for p in average.parameters()]
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    assert any(not torch.equal(a, b) for a, b in zip(got, histories[0][-1], strict=True))


def test_training_goes_on_from_the_average(backend: Target, kind: Kind) -> None:
    """Weights replaced by their average are what the next step starts from."""
    net = network(backend.device)
    optimizer = kind.make(net.parameters(), backend, **OPTIONS[kind.name])
    average = AveragedModel(net)
    train(net, optimizer, SWALR(optimizer, swa_lr=0.01), average)
    update_bn([rings(48)[0].to(backend.device)], average)
    net.load_state_dict(average.module.state_dict())
    twin = copy.deepcopy(net)
    other = kind.make(twin.parameters(), backend, **OPTIONS[kind.name])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    histories = [
        train(n, o, SWALR(o, swa_lr=0.01), None) for n, o in ((net, optimizer), (twin, other))
    ]
    for mine, theirs in zip(*histories, strict=True):
        assert all(map(torch.equal, mine, theirs))
