"""What torch.optim's users take for granted: groups, closures, hooks, schedulers, options.

Values are followed against the oracle, so that an option is not only kept but obeyed.
"""

from typing import Any

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from conftest import Kind
from parity.gradients import SCRIPT
from parity.pairs import model, run
from parity.targets import Target

MOMENTUM = {"AdamP": "betas", "SGDP": "momentum"}


def test_add_param_group(backend: Target, kind: Kind) -> None:
    """A group added in the middle of training starts its own count, under its own options."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:3])
    options = {"lr": 0.05, "delta": 0.2}
    _, new = model(kind, backend, "two_by_two", **options)
    optimizer.add_param_group({"params": [new[0].p], **options})
    run(optimizer, pairs + new, SCRIPT[3:6])


def test_named_parameters(backend: Target, kind: Kind) -> None:
    """Names are kept, and are seen in an error."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to(backend.device)
    optimizer = kind.make(net.named_parameters(), backend)
    names = [name for name, _ in net.named_parameters()]
    assert optimizer.param_groups[0]["param_names"] == names
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == names
    net[1].weight.grad = torch.zeros_like(net[1].weight).to_sparse()
    with pytest.raises((TypeError, ValueError, RuntimeError), match=r"1\.weight"):
        optimizer.step()


def test_closure(backend: Target, kind: Kind) -> None:
    """A closure runs once, with gradients enabled, before anything else; its loss comes back."""
    optimizer, pairs = model(kind, backend)
    for outcome in SCRIPT[:3]:
        calls = []

        def closure(outcome: int = outcome, calls: list = calls) -> torch.Tensor:
            calls.append(torch.is_grad_enabled())
            for pair in pairs:
                pair.advance(outcome, optimizer.state.get(pair.p, {}))
            return torch.tensor(3.5)

        with torch.no_grad():
            assert optimizer.step(closure) == 3.5
        assert calls == [True]
        for pair in pairs:
            pair.check(optimizer.state[pair.p], "closure")
    assert optimizer.step() is None


def test_hooks(backend: Target, kind: Kind) -> None:
    """Hooks run around each step, see it, and a hook before it may still change an option."""
    optimizer, pairs = model(kind, backend)
    seen = []

    def before(opt: Any, args: Any, kwargs: Any) -> None:
        seen.append(pairs[0].p.detach().clone())
        opt.param_groups[0]["lr"] = 0.05

    def after(opt: Any, args: Any, kwargs: Any) -> None:
        seen.append(pairs[0].p.detach().clone())

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
    for pair in pairs:
        pair.options["lr"] = 0.05
    run(optimizer, pairs, SCRIPT[:2])
    assert len(seen) == 4 and not torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[2])


def test_hooks_of_all_optimizers(backend: Target, kind: Kind) -> None:
    """Hooks that torch runs around the steps of all optimizers run around these, until removed."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:1])
    seen = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("before")),
        register_optimizer_step_post_hook(lambda *_: seen.append("after")),
    ]
    for handle in handles:
        run(optimizer, pairs, SCRIPT[1:2])
        handle.remove()
    run(optimizer, pairs, SCRIPT[2:3])
    assert seen == ["before", "after", "after"]


def test_profiler(backend: Target, kind: Kind) -> None:
    """A profiler sees each step that is made while it is there, by the name it has in torch."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:1])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run(optimizer, pairs, SCRIPT[1:3])
    run(optimizer, pairs, SCRIPT[3:4])
    name = f"Optimizer.step#{type(optimizer).__name__}.step"
    assert [event.count for event in profile.key_averages() if event.key == name] == [2]


def test_default_device(backend: Target, kind: Kind) -> None:
    """Where new tensors lie by default is of no account: state lies beside its parameter."""
    (there, other), pairs = zip(*(model(kind, backend) for _ in range(2)), strict=True)
    for outcome in SCRIPT[:3]:
        for mine, twin in zip(*pairs, strict=True):
            mine.advance(outcome, there.state.get(mine.p, {}))
            twin.p.grad = None if mine.p.grad is None else mine.p.grad.clone()
        with torch.device("meta"):
            there.step()
        other.step()
        for mine, twin in zip(*pairs, strict=True):
            assert torch.equal(mine.p, twin.p)
            state, wanted = there.state[mine.p], other.state[twin.p]
            assert state.keys() == wanted.keys()
            for key in wanted:
                assert state[key].device == wanted[key].device, key
                assert torch.equal(state[key], wanted[key]), key


def test_autograd(backend: Target, kind: Kind) -> None:
    """A step leaves no graph behind, whether or not autograd is on around it."""
    optimizer, pairs = model(kind, backend)
    for outcome, enabled in zip(SCRIPT[:4], (True, False, True, True), strict=True):
        with torch.set_grad_enabled(enabled):
            run(optimizer, pairs, (outcome,))
            assert torch.is_grad_enabled() == enabled
    for pair in pairs:
        assert pair.p.is_leaf and pair.p.requires_grad
        state = optimizer.state[pair.p].values()
        assert not any(value.requires_grad for value in state if isinstance(value, torch.Tensor))


@pytest.mark.parametrize("name", ["StepLR", "OneCycleLR"])
@pytest.mark.parametrize("tensor", [False, True], ids=["float", "tensor"])
def test_schedulers(backend: Target, kind: Kind, name: str, tensor: bool) -> None:
    """A scheduler's learning rate, and OneCycleLR's momentum, hold for the next step."""
    lr = torch.tensor(0.5) if tensor else 0.5
    optimizer, pairs = model(kind, backend, lr=lr)
    if name == "StepLR":
        scheduler = lr_scheduler.StepLR(optimizer, 2, gamma=0.3)
    else:
        scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=9)
    seen = set()
    for outcome in SCRIPT[:7]:
        group, key = optimizer.param_groups[0], MOMENTUM[kind.name]
        for pair in pairs:
            pair.options |= {"lr": float(group["lr"]), key: group[key]}
        seen.add((pair.options["lr"], pair.options[key]))
        run(optimizer, pairs, (outcome,))
        scheduler.step()
    assert len(seen) > 3, "the scheduler changed nothing: the test cannot fail"


def test_tensor_lr_changed_in_place(backend: Target, kind: Kind) -> None:
    """A tensor beside the weights is read at each step, as a graph or a scheduler would fill it."""
    lr = torch.tensor(0.02, device=backend.device)
    optimizer, pairs = model(kind, backend, lr=lr)
    for outcome, value in zip(SCRIPT[:4], (0.02, 0.1, 0.0, 0.05), strict=True):
        lr.fill_(value)
        for pair in pairs:
            pair.options["lr"] = value
        run(optimizer, pairs, (outcome,))


def test_options_changed_between_steps(backend: Target, kind: Kind) -> None:
    """Every option of a group may change between steps and holds from the next one on."""
    optimizer, pairs = model(kind, backend)
    changes: list[dict[str, Any]] = [
        *({"lr": 0.1}, {"weight_decay": 0.0}, {"weight_decay": 0.5, "wd_ratio": 0.7}),
        *({"delta": 0.3}, {"eps": 1e-2}, {"nesterov": True}, {"maximize": True}),
        *({"projection": "channel"}, {"projection": "off"}, {"projection": "auto"}),
        {"betas": (0.7, 0.9)} if kind.name == "AdamP" else {"momentum": 0.4, "dampening": 0.2},
    ]
    for number, change in enumerate(changes):
        optimizer.param_groups[0].update(change)
        for pair in pairs:
            pair.options |= change
        run(optimizer, pairs, SCRIPT[number : number + 1])


def test_integer_options(backend: Target, kind: Kind) -> None:
    """Whole numbers are numbers: lr=1, weight_decay=0, momentum=0, delta=1, a list of betas."""
    options: dict[str, Any] = {"lr": 1, "weight_decay": 0, "delta": 1, "wd_ratio": 1, "eps": 1}
    options |= {"betas": [0, 0]} if kind.name == "AdamP" else {"momentum": 0, "dampening": 0}
    optimizer, pairs = model(kind, backend, "bias", "conv", **options)
    run(optimizer, pairs, SCRIPT[:2])


@torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True)
def test_compiled_step(backend: Target, kind: Kind) -> None:
    """Under torch.compile a step is what it was, and is not traced once for each parameter."""
    results = []
    for compiled in (False, True):
        torch._dynamo.reset()
        optimizer, pairs = model(kind, backend)
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for scale in (1.0, 2.0, 3.0):
            for pair in pairs:
                pair.p.grad = scale * pair.p.detach().cos()
            step()
        results.append([pair.p.detach() for pair in pairs])
    assert all(map(torch.equal, *results))
