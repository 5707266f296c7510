"""Run an optimizer and the oracle side by side and compare everything after each step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from conftest import Kind
from parity.cases import DECAY, STATE_KEYS, Shape, shapes
from parity.gradients import generator, scripted
from parity.oracle import Step, adamp_step, sgdp_step
from parity.targets import Target
from parity.tolerances import Tolerance

ORACLES = {"AdamP": adamp_step, "SGDP": sgdp_step}


def weights(shape: Shape, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Parameter:
    """Give a parameter of normal weights that depends on the shape's name alone."""
    values = torch.randn(shape.shape, generator=generator(shape.seed), dtype=torch.float64)
    return Parameter(values.to(device, dtype))


def largest(x: Tensor) -> float:
    """Largest absolute element, 0 where there is none."""
    return x.abs().max().item() if x.numel() else 0.0


def smallest(dtype: torch.dtype) -> float:
    """Distance between subnormal numbers."""
    return torch.finfo(dtype).tiny * torch.finfo(dtype).eps


def assert_close(got: Tensor, want: Tensor, bound: Tensor, what: str) -> None:
    """Demand |got - want| <= bound element by element; name the first one outside."""
    got = got.detach().double().cpu()
    outside = ~((got - want).abs() <= bound)  # so that a NaN is outside
    if outside.any():
        at = tuple(outside.nonzero()[0].tolist())
        raise AssertionError(
            f"{what}: {int(outside.sum())} of {got.numel()} elements differ, first at {at}: "
            f"got {got[at].item()!r}, want {want[at].item()!r}, bound {bound[at].item():.3g}"
        )


def check_parameter(p: Tensor, step: Step, lr: float, tolerance: Tolerance, what: str) -> None:
    """Compare weights with the oracle's."""
    # In 16 bits the last bit of a large momentum buffer is seen in the update.
    units = max(1.0, largest(step.raw)) if p.dtype.itemsize == 2 else 1.0
    bound = tolerance.p_rel * step.p.abs() + tolerance.p_lr * lr * units + smallest(p.dtype)
    assert_close(p, step.p, bound, f"{what}: weights")


def check_state(
    state: dict[str, Any], grad: Tensor, step: Step, tolerance: Tolerance, what: str
) -> None:
    """Compare every state tensor and the step count with the oracle's."""
    for key, want in step.state.items():
        if key == "step":
            assert state["step"].item() == want, f"{what}: step {state['step']}, want {want}"
            continue
        # A first moment is a sum that may cancel; what it was made of has the size of g and raw.
        made_of = [want] if key == "exp_avg_sq" else [want, step.raw, grad.double().cpu()]
        # By way of a projection the last bit of one element reaches its whole row.
        projected = key == "momentum" and not torch.equal(want, step.raw)
        of_size = tolerance.state_rel if projected else tolerance.state_abs
        bound = tolerance.state_rel * want.abs() + of_size * max(map(largest, made_of))
        bound += smallest(grad.dtype)
        assert_close(state[key], want, bound, f"{what}: {key}")


class Pair:
    """One parameter and its twin in the oracle's hands."""

    def __init__(
        self, shape: Shape, p: Parameter, kind: str, options: dict[str, Any], backend: Target
    ) -> None:
        """Start the twin at the parameter's values; options are those of its group."""
        self.shape, self.p, self.kind, self.options = shape, p, kind, options
        self.twin = p.detach().double().cpu()
        self.twin_state: dict[str, Any] = {}
        self.rng = generator(shape.seed + 1)
        self.exact_restart = p.dtype in (torch.bfloat16, torch.float16)
        self.tolerance = backend.tolerance(p.dtype)
        self.before = self.twin, self.twin_state
        self.latest = Step(self.twin, {}, 0, 1.0, self.twin)

    def advance(self, outcome: int, state: dict[str, Any]) -> None:
        """Draw the next gradient, hand it to both, and step the twin."""
        if self.exact_restart and state:
            self.twin = self.p.detach().double().cpu()
            keys = STATE_KEYS[self.kind]
            self.twin_state |= {key: state[key].detach().double().cpu() for key in keys}
        grad = scripted(self.twin, outcome, self.rng).to(self.p.dtype)
        self.p.grad = grad.to(self.p.device)
        self.before = self.twin, self.twin_state
        step = self.oracle_step(grad, self.tolerance.store)
        self.demand_margin(step)
        self.latest, self.twin, self.twin_state = step, step.p, step.state

    def oracle_step(self, grad: Tensor, store: Callable[[Tensor], Tensor]) -> Step:
        """The oracle's step from where the twin was before this one."""
        twin, state = self.before
        return ORACLES[self.kind](twin, grad, state, store=store, **self.options)

    def demand_margin(self, step: Step) -> None:
        """Refuse a gradient whose outcome is a matter of rounding."""
        assert step.margin > 1.5, f"{self.shape.name}: a cosine too near its bound to judge"

    def check(self, state: dict[str, Any], what: str) -> None:
        """Compare the parameter and its state with the twin's.

        A moment in 16 bits may lie in the middle between two values, and be rounded to either. It
        is compared as every other; but what it then does to u has no bound, half of the smallest
        second moment being 0: so the weights are those that follow from the moments as stored.
        """
        what = f"{what}, {self.shape.name} {self.shape.shape}"
        if self.exact_restart and self.kind == "AdamP":
            stored = iter([state[key].detach().double().cpu() for key in STATE_KEYS[self.kind]])
            step = self.oracle_step(self.p.grad.cpu(), lambda _: next(stored))
            self.latest = replace(self.latest, p=step.p)
        check_parameter(self.p, self.latest, self.options["lr"], self.tolerance, what)
        check_state(state, self.p.grad, self.latest, self.tolerance, what)
        if self.options.get("projection", "auto") == "auto" and self.p.dim() > 1 and self.p.numel():
            view = state["view"].item()
            assert view == self.latest.view, f"{what}: view {view}, want {self.latest.view}"


def step_and_check(optimizer: Any, pairs: list[Pair], outcomes: list[int], what: str) -> None:
    """One step with a gradient for each pair, which leads to its outcome; compare every pair."""
    for pair, outcome in zip(pairs, outcomes, strict=True):
        pair.advance(outcome, optimizer.state.get(pair.p, {}))
    optimizer.step()
    for pair in pairs:
        pair.check(optimizer.state[pair.p], what)


def run(optimizer: Any, pairs: list[Pair], script: tuple[int, ...]) -> None:
    """Step the optimizer through the script, comparing every pair after every step.

    Each pair starts at another place of the script, so that one step has tensors of all outcomes.
    """
    for number in range(len(script)):
        outcomes = [script[(number + index) % len(script)] for index in range(len(pairs))]
        step_and_check(optimizer, pairs, outcomes, f"step {number + 1}")


def pairs_of(
    kind: Kind, wanted: tuple[Shape, ...], dtype: torch.dtype, backend: Target, **options: Any
) -> list[Pair]:
    """One pair per shape, each with options of its own that start equal."""
    made = [(shape, weights(shape, dtype, backend.device)) for shape in wanted]
    return [Pair(shape, p, kind.name, kind.options | options, backend) for shape, p in made]


def model(kind: Kind, backend: Target, *names: str, **options: Any) -> tuple[Any, list[Pair]]:
    """A small float32 optimizer with weight decay over named shapes, and its pairs."""
    options, wanted = DECAY | options, shapes(*(names or ("odd", "bias")))
    pairs = pairs_of(kind, wanted, torch.float32, backend, **options)
    return kind.make([pair.p for pair in pairs], backend, **options), pairs
