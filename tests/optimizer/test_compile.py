"""torch.compile: a step is one operator, without a break in the graph, to the same bits."""

import copy
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.library import opcheck

from adamp_fused._stats import Stat
from conftest import Kind

BACKENDS = ("eager", "aot_eager", "inductor")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "nesterov": {"nesterov": True, "maximize": True},
    "fixed": {"projection": "channel"},
    "scaled": {"grad_scaling": True},
    "clipped": {"max_grad_norm": 0.5},
    "measured": {"stats": True},
}


class Net(nn.Module):
    """Weights of two dimensions and of one, and one that a kernel works on copies of."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 9), nn.Linear(9, 4)
        self.odd = nn.Parameter(torch.randn(4, 9).t())

    def forward(self, x: Tensor) -> Tensor:
        """A scalar."""
        hidden: Tensor = torch.tanh(self.first(x))
        return (self.second(hidden) + hidden @ self.odd).square().mean()


def made(kind: Kind, lr: Any, **options: Any) -> tuple[Net, Any]:
    """A network, and an optimizer of two groups."""
    torch.manual_seed(0)
    net = Net().to(DEVICE)
    first = list(net.first.parameters())
    rest = [*net.second.parameters(), net.odd]
    groups = [{"params": first}, {"params": rest, "weight_decay": 0.1, "wd_ratio": 0.5}]
    return net, kind.make(groups, lr=lr, **options)


def give(net: Net, step: int) -> None:
    """New gradients, in new places."""
    for p in net.parameters():
        p.grad = (p.detach() * (step + 1)).cos()


def everything(net: Net, optimizer: Any) -> list[Tensor]:
    """Weights and state."""
    states = [optimizer.state[p] for p in net.parameters()]
    return [*(p.detach() for p in net.parameters()), *(v for s in states for v in s.values())]


def scale(net: Net, optimizer: Any, step: int) -> None:
    """What GradScaler would set: every third step is skipped."""
    for p in net.parameters():
        assert p.grad is not None
        p.grad.mul_(8)
    optimizer.grad_scale = torch.tensor(8.0, device=DEVICE)
    optimizer.found_inf = torch.tensor(float(step % 3 == 2), device=DEVICE)


@pytest.mark.parametrize("tensor_lr", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("compiler", BACKENDS)
def test_same_bits(kind: Kind, compiler: str, options: dict[str, Any], tensor_lr: bool) -> None:
    """One graph, whatever gradients and a tensor learning rate become; the bits of a plain step."""
    results = []
    for compiled in (False, True):
        torch._dynamo.reset()
        lr: Any = torch.tensor(0.1, device=DEVICE) if tensor_lr else 0.1
        net, optimizer = made(kind, lr, **options)
        counter = CompileCounterWithBackend(compiler)
        step = torch.compile(optimizer.step, fullgraph=True, backend=counter)
        for number in range(5):
            give(net, number)
            if "grad_scaling" in options:
                scale(net, optimizer, number)
            if tensor_lr:
                lr.fill_(0.1 / (number + 1))
            (step if compiled else optimizer.step)()
        assert counter.frame_count == compiled
        results.append(everything(net, optimizer))
        if optimizer.grad_norm is not None:
            results[-1].append(optimizer.grad_norm)
        if optimizer.steps_skipped is not None:
            assert optimizer.steps_skipped.item() == 1
    assert all(map(torch.equal, *results))


def test_inside_a_compiled_function(kind: Kind) -> None:
    """A compiled function that calls the step has no break either."""
    torch._dynamo.reset()
    results = []
    for compiled in (False, True):
        net, optimizer = made(kind, torch.tensor(0.1, device=DEVICE))

        def shrink_and_step(factor: Tensor, net: Net = net, optimizer: Any = optimizer) -> Tensor:
            optimizer.step()
            return net.first.weight.sum() * factor

        run = torch.compile(shrink_and_step, fullgraph=True) if compiled else shrink_and_step
        for number in range(3):
            give(net, number)
            sums = run(torch.tensor(2.0, device=DEVICE))
        results.append([*everything(net, optimizer), sums])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=1e-6)


def test_a_number_is_compiled_in(kind: Kind) -> None:
    """A learning rate that is a number may change, too: the step is compiled anew."""
    results = []
    for compiled in (False, True):
        torch._dynamo.reset()
        net, optimizer = made(kind, 0.1)
        step = torch.compile(optimizer.step, fullgraph=True, backend="eager")
        for number in range(4):
            give(net, number)
            for group in optimizer.param_groups:
                group["lr"] = 0.1 / (number + 1)
            (step if compiled else optimizer.step)()
        results.append(everything(net, optimizer))
    assert all(map(torch.equal, *results))


def test_state_that_is_there(kind: Kind) -> None:
    """Plain steps, compiled ones and loaded state follow one another."""
    torch._dynamo.reset()
    net, optimizer = made(kind, 0.1)
    twin, other = made(kind, 0.1)
    step = torch.compile(optimizer.step, fullgraph=True, backend="eager")
    for number in range(8):
        for each in (net, twin):
            give(each, number)
        other.step()
        (step if number % 4 > 1 else optimizer.step)()
        if number == 5:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert all(map(torch.equal, everything(net, optimizer), everything(twin, other)))


def test_gradients_that_come_and_go(kind: Kind) -> None:
    """A parameter without a gradient is left alone, compiled or not."""
    results = []
    for compiled in (False, True):
        torch._dynamo.reset()
        net, optimizer = made(kind, 0.1)
        step = torch.compile(optimizer.step, fullgraph=True, backend="eager")
        for number in range(4):
            give(net, number)
            if number % 2:
                net.first.bias.grad = net.odd.grad = None
            (step if compiled else optimizer.step)()
        results.append(everything(net, optimizer))
    assert all(map(torch.equal, *results))


def test_training_step(kind: Kind) -> None:
    """A compiled training step breaks at backward() at most, as with torch's own optimizers."""
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    breaks = []
    for ours in (True, False):
        torch._dynamo.reset()
        torch.manual_seed(0)
        net, optimizer = made(kind, torch.tensor(0.1, device=DEVICE))
        if not ours:
            optimizer = torch.optim.AdamW(net.parameters(), lr=torch.tensor(0.1, device=DEVICE))

        def train(net: Net = net, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad(set_to_none=False)
            loss = net(x)
            loss.backward()
            optimizer.step()
            return loss

        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        breaks.append(torch._dynamo.explain(train)().graph_break_count)
    assert breaks[0] <= breaks[1]


def test_loss_goes_down(kind: Kind) -> None:
    """Compiled with the loop around it, training comes to what it comes to uncompiled."""
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    losses = []
    for compiled in (False, True):
        torch._dynamo.reset()
        net, optimizer = made(kind, torch.tensor(0.05, device=DEVICE))

        def train(net: Net = net, optimizer: Any = optimizer) -> Tensor:
            loss = net(x)
            loss.backward()
            optimizer.step()
            return loss

        run = torch.compile(train, backend="aot_eager") if compiled else train
        own = []
        for _ in range(6):
            own.append(run().item())
            optimizer.zero_grad()
        losses.append(own)
    assert losses[0][-1] < losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def arguments(kind: Kind) -> tuple[Any, ...]:
    """Of the operator, for two parameters of a group each."""
    p, bias = torch.randn(5, 7), torch.randn(7)
    params = [nn.Parameter(p), nn.Parameter(bias)]
    zeros = [torch.zeros_like(x) for x in (p, bias)]
    adam = kind.name == "AdamP"
    return (
        *(kind.name.lower(), params, [x.cos() for x in (p, bias)], zeros),
        [x.clone() for x in zeros] if adam else [],
        [torch.zeros(()), torch.zeros(())] if adam else [],
        [torch.zeros((), dtype=torch.int32)],
        [torch.zeros(len(Stat), dtype=torch.float64) for _ in params],
        *([0, 1], ["auto", "off"]),
        *([None, torch.tensor(0.1)], [None, None]),
        *([0.1, 0.0, 1e-8, 0.1, 0.1, 0.9, 0.5] * 2, [0, 0, 1] * 2),
        *(torch.tensor(2.0), torch.tensor(0.0), torch.zeros((), dtype=torch.int64)),
        *(1.0, torch.zeros(())),
    )


def test_operator(kind: Kind) -> None:
    """Schema, autograd, fake tensors and dynamic shapes, as torch checks them."""
    results = opcheck(torch.ops.adamp_fused.step_.default, arguments(kind))
    assert len(results) == 4 and set(results.values()) == {"SUCCESS"}
