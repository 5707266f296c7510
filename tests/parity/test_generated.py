"""Random training runs against the oracle: shapes, memory, types, options, outcomes, order.

The same runs each time; `pytest --hypothesis-profile=nightly` tries many more, new ones each time.
A failure prints the smallest case found; pasted as `@example(case=Case(...))` it is run again.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import assume, given

from adamp_fused.backends.registry import BACKENDS
from conftest import Kind
from kernels.emulation.backend import EmulatedBackend
from parity.cases import STATE_KEYS, Shape
from parity.layouts import LAYOUTS, shifted
from parity.oracle import Step
from parity.pairs import Pair, step_and_check, weights
from parity.strategies import Case, Drawn, Memory, cases
from parity.targets import TARGETS, Target

FAST = [target for target in TARGETS if target.name in ("cpu", "cuda", "emulated")]


def lay_out(x: Tensor, memory: Memory) -> Tensor:
    """The values of x in another place of memory."""
    return shifted(LAYOUTS[memory.layout](x), memory.shift)


class Generated(Pair):
    """A pair as it was drawn."""

    def __init__(self, index: int, drawn: Drawn, case: Case, backend: Target) -> None:
        """Lay the weights out; the index is what their values depend on."""
        shape = Shape(f"tensor {index}", drawn.shape, "generated")
        p = weights(shape, getattr(torch, drawn.dtype), backend.device)
        p.data = lay_out(p.data, drawn.memory)
        options = {k: v for k, v in case.groups[drawn.group].items() if k != "tensor_lr"}
        super().__init__(shape, p, case.kind, options, backend)
        self.drawn, self.steps = drawn, 0

    def demand_margin(self, step: Step) -> None:
        """Draw another case where rounding decides."""
        assume(step.margin > 1.5)

    def advance(self, outcome: int, state: dict[str, Any]) -> None:
        """Lay out the gradient, and once there is one, the state."""
        if self.drawn.moments and self.steps == 1:
            state |= {k: lay_out(state[k], self.drawn.moments) for k in STATE_KEYS[self.kind]}
        super().advance(outcome, state)
        grads = self.drawn.grads
        self.p.grad = lay_out(self.p.grad, grads[self.steps % len(grads)])
        self.steps += 1


def build(case: Case, backend: Target) -> tuple[Any, list[Generated]]:
    """The optimizer of a case, and its pairs in the order drawn."""
    pairs = [Generated(i, drawn, case, backend) for i, drawn in enumerate(case.tensors)]
    groups = []
    for index, options in enumerate(case.groups):
        group = {k: v for k, v in options.items() if k != "tensor_lr"}
        if options["tensor_lr"]:
            group["lr"] = torch.tensor(options["lr"], device=backend.device)
        params = [pair.p for pair in pairs if pair.drawn.group == index]
        groups.append({"params": params, **group})
    return Kind(case.kind, {}).make(groups, backend), pairs


@pytest.fixture(autouse=True)
def usual_schedule(backend: Target) -> Iterator[None]:
    """Leave an emulated device as it was."""
    yield
    used = BACKENDS[backend.name]
    if isinstance(used, EmulatedBackend):
        used.set_device()


@pytest.mark.parametrize("backend", FAST, ids=lambda target: target.label, indirect=True)
@given(case=cases())
def test_run(backend: Target, case: Case) -> None:
    """Every value of every step, and whatever has no gradient stays as it is."""
    used = BACKENDS[backend.name]
    if isinstance(used, EmulatedBackend):
        used.set_device(*case.schedule)
    optimizer, pairs = build(case, backend)
    for number in range(len(case.tensors[0].history)):
        drawn = {pair: pair.drawn.history[number] for pair in pairs}
        active = {pair: outcome for pair, outcome in drawn.items() if outcome is not None}
        passive = [pair for pair in pairs if pair not in active]
        for pair in passive:
            pair.p.grad = None
        before = [(pair.p.detach().clone(), pair.p._version) for pair in passive]
        step_and_check(optimizer, list(active), list(active.values()), f"step {number + 1}")
        for pair, (values, version) in zip(passive, before, strict=True):
            assert torch.equal(pair.p, values) and pair.p._version == version
