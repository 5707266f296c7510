"""A momentum of 1 and more: for a moment, as torch's schedulers cycle it."""

from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from conftest import KINDS
from optimizer.spoiling import fails_and_changes_nothing
from parity.cases import shapes
from parity.gradients import SCRIPT
from parity.pairs import model, run, weights
from parity.targets import Target

SGDP = KINDS[1]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [1, 1.0, 1.25])
def test_without_decay(backend: Target, momentum: float, nesterov: bool) -> None:
    """Without weight decay a step is adamp's, whatever the momentum."""
    options: dict[str, Any] = {"momentum": momentum, "nesterov": nesterov, "weight_decay": 0}
    params = [weights(shape, device=backend.device) for shape in shapes("odd", "bias")]
    twins = [torch.nn.Parameter(p.detach().cpu().double()) for p in params]
    ours, theirs = SGDP.make(params, backend, **options), SGDP.official(twins, **options)
    for number in range(4):
        for p, twin in zip(params, twins, strict=True):
            twin.grad = (twin.detach() * (number + 1.5)).cos()
            p.grad = twin.grad.to(p.device, p.dtype)
        ours.step()
        theirs.step()
        for p, twin in zip(params, twins, strict=True):
            torch.testing.assert_close(p.detach().cpu().double(), twin, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("momentum", [1.0, 1.5])
def test_with_decay(backend: Target, momentum: float) -> None:
    """With weight decay, which 1 - momentum divides, a step is refused before its start."""
    optimizer, pairs = model(SGDP, backend, momentum=momentum)
    message = rf"group 0: momentum={momentum} must be below 1 where weight_decay=0.1 is not 0.*use"
    for pair in pairs:
        pair.p.grad = torch.ones_like(pair.p)
    params = [pair.p for pair in pairs]
    with pytest.raises(ValueError, match=message):
        raise fails_and_changes_nothing(optimizer, params)
    optimizer.param_groups[0]["momentum"] = 0.9
    for pair in pairs:
        pair.options["momentum"] = 0.9
    run(optimizer, pairs, SCRIPT[:2])
    optimizer.param_groups[0]["momentum"] = momentum
    with pytest.raises(ValueError, match=message):
        raise fails_and_changes_nothing(optimizer, params)


@pytest.mark.parametrize("momentum", [-0.5, float("inf"), float("nan")])
def test_no_momentum(momentum: float) -> None:
    """Below 0 and beyond all numbers it is none."""
    with pytest.raises(ValueError, match=rf"momentum={momentum} must be (at least 0|finite)"):
        SGDP.make([weights(*shapes("odd"))], momentum=momentum)


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")
def test_cyclic_momentum(backend: Target) -> None:
    """Torch's own tests of its schedulers let the momentum go up to 5 and come back."""
    optimizer, pairs = model(SGDP, backend, weight_decay=0, lr=0.01)
    scheduler = lr_scheduler.CyclicLR(
        optimizer, base_lr=1e-4, max_lr=1e-3, step_size_up=2, base_momentum=0.5, max_momentum=2.0
    )
    seen = []
    for outcome in SCRIPT[:5]:
        group = optimizer.param_groups[0]
        seen.append(group["momentum"])
        for pair in pairs:
            pair.options |= {"lr": group["lr"], "momentum": group["momentum"]}
        if group["momentum"] < 1:
            run(optimizer, pairs, (outcome,))  # the oracle divides by 1 - momentum
        else:
            optimizer.step()
            for pair in pairs:
                state = optimizer.state[pair.p]
                pair.twin = pair.p.detach().double().cpu()
                pair.twin_state = {"momentum": state["momentum"].double().cpu()} if state else {}
        scheduler.step()
    assert max(seen) > 1 and min(seen) < 1
