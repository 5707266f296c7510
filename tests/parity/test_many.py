"""A plan of 10,000 tensors: the right values for each, planned once."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from adamp_fused.backends.registry import BACKENDS
from conftest import Kind
from kernels.emulation.backend import EmulatedBackend
from parity.cases import DECAY, Shape, shapes
from parity.gradients import generator
from parity.pairs import Pair, step_and_check, weights
from parity.targets import TARGETS, Target

TENSORS = 10_000
ORIGINALS = shapes("one", "column", "two_by_two", "odd", "vector", "below_vector", "empty", "bias")
FAST = [target for target in TARGETS if target.name in ("cpu", "cuda", "emulated")]
# Which originals have a gradient in each step: the emulation takes 10 seconds for all of them.
ALL, SOME, OTHERS = slice(None), slice(0, None, 4), slice(1, None, 4)


class Original(Pair):
    """A pair with copies, which must come to the same bits."""

    def __init__(self, shape: Shape, kind: Kind, backend: Target) -> None:
        """Start without copies."""
        p = weights(shape, device=backend.device)
        super().__init__(shape, p, kind.name, kind.options | DECAY, backend)
        self.all = [p]

    def copy(self) -> Parameter:
        """One more copy of the weights as they are."""
        self.all.append(Parameter(self.p.detach().clone()))
        return self.all[-1]

    def advance(self, outcome: int, state: dict[str, Any]) -> None:
        """Give every copy a copy of the gradient."""
        super().advance(outcome, state)
        for p in self.all[1:]:
            p.grad = self.p.grad.clone()


def stacked(optimizer: Any, params: list[Parameter]) -> dict[str, Tensor]:
    """Weights and state of parameters of one shape, each in one tensor."""
    states = [optimizer.state[p] for p in params]
    values = {key: torch.stack([state[key] for state in states]) for key in states[0]}
    return values | {"weights": torch.stack([p.detach() for p in params])}


@pytest.mark.parametrize("backend", FAST, ids=lambda target: target.label, indirect=True)
def test_values(backend: Target, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tensors, then steps in which some have no gradient; one plan serves every step."""
    originals = [Original(shape, kind, backend) for shape in ORIGINALS]
    # In a drawn order, so that a tensor taken for another is noticed.
    drawn = torch.randint(0, len(originals), (TENSORS - len(originals),), generator=generator(1))
    params = [original.p for original in originals] + [originals[i].copy() for i in drawn]
    optimizer = kind.make(params, backend, **DECAY)
    used, plans = BACKENDS[backend.name], []
    plan = used.plan
    monkeypatch.setattr(used, "plan", lambda *args: plans.append(plan(*args)) or plans[-1])
    emulated = isinstance(used, EmulatedBackend)
    staged_before = used.staged_copies() if emulated else 0

    steps = [ALL, SOME, OTHERS] if emulated else [ALL, SOME, ALL, OTHERS, ALL]
    for number, which in enumerate(steps):
        optimizer.zero_grad()
        active = originals[which]
        outcomes = [(number + i) % 3 for i in range(len(active))]
        step_and_check(optimizer, active, outcomes, f"step {number + 1}")
        for original in originals:
            want = stacked(optimizer, [original.p])
            for key, got in stacked(optimizer, original.all).items():
                assert torch.equal(got, want[key].expand_as(got)), f"{original.shape.name}: {key}"
    assert len(plans) == 1
    if emulated:
        assert used.staged_copies() - staged_before == len(steps)
