"""An optimizer for each parameter that steps within backward, as soon as the gradient is there."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.optim import (
    _apply_optimizer_in_backward,
    _get_in_backward_optimizers,
)
from torch.nn.functional import cross_entropy

import adamp_fused
from conftest import Kind
from parity.targets import Target
from parity.test_training import OPTIONS, network, rings


def backward(net: nn.Module) -> None:
    """Gradients of one batch."""
    pictures, labels = (x.to(next(net.parameters()).device) for x in rings(48))
    cross_entropy(net(pictures), labels).backward()


def with_hooks(net: nn.Module, kind: Kind, backend: Target) -> list[Any]:
    """A hook for each parameter, which torch calls once the gradient is accumulated."""
    made = {p: kind.make([p], backend, **OPTIONS[kind.name]) for p in net.parameters()}

    def step(p: torch.Tensor) -> None:
        made[p].step()
        made[p].zero_grad()

    for p in made:
        p.register_post_accumulate_grad_hook(step)
    return list(made.values())


def applied(net: nn.Module, kind: Kind, backend: Target) -> list[Any]:
    """By the function that torch has for it, which takes a class and its options."""
    options = kind.options | OPTIONS[kind.name] | {"backend": backend.name}
    cls = getattr(adamp_fused, f"Fused{kind.name}")
    _apply_optimizer_in_backward(cls, net.parameters(), options)
    return _get_in_backward_optimizers(net)


@pytest.mark.parametrize("way", [with_hooks, applied])
def test_equals_one_step_afterwards(backend: Target, kind: Kind, way: Any) -> None:
    """To the bit what one optimizer for all comes to that steps after backward."""
    net, twin = network(backend.device), network(backend.device)
    each = way(net, kind, backend)
    one = kind.make(twin.parameters(), backend, **OPTIONS[kind.name])
    for _ in range(3):
        backward(net)
        backward(twin)
        assert all(p.grad is None for p in net.parameters())
        one.step()
        one.zero_grad()
    for optimizer, p, q in zip(each, net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
        assert optimizer.state[p].keys() == one.state[q].keys()
        assert all(
            torch.equal(value, one.state[q][key]) for key, value in optimizer.state[p].items()
        )
