"""Run an optimizer and the oracle side by side and compare everything after each step."""

from typing import Any

import torch
from torch import Tensor

from cases import STATE_KEYS, TOLERANCES, Shape
from gradients import generator, scripted
from oracle import Step, adamp_step, sgdp_step

ORACLES = {"AdamP": adamp_step, "SGDP": sgdp_step}


def weights(
    shape: Shape, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> torch.nn.Parameter:
    """Give a parameter of normal weights that depends on the shape's name alone."""
    values = torch.randn(shape.shape, generator=generator(shape.seed), dtype=torch.float64)
    return torch.nn.Parameter(values.to(device, dtype))


def largest(x: Tensor) -> float:
    """Largest absolute element, 0 where there is none."""
    return x.abs().max().item() if x.numel() else 0.0


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


def check_parameter(p: Tensor, step: Step, lr: float, what: str) -> None:
    """Compare weights with the oracle's under the tolerance of their type."""
    tolerance = TOLERANCES[p.dtype]
    bound = tolerance.p_rel * step.p.abs() + tolerance.p_lr * lr
    assert_close(p, step.p, bound, f"{what}: weights")


def check_state(state: dict[str, Any], grad: Tensor, step: Step, what: str) -> None:
    """Compare every state tensor, the step count and the outcome with the oracle's."""
    tolerance = TOLERANCES[grad.dtype]
    for key, want in step.state.items():
        if key == "step":
            assert state["step"].item() == want, f"{what}: step {state['step']}, want {want}"
            continue
        # A first moment is a sum that may cancel; what it was made of has the size of g and raw.
        made_of = [want] if key == "exp_avg_sq" else [want, step.raw, grad.double().cpu()]
        bound = tolerance.state_rel * sum(x.abs() for x in made_of[:2])
        bound = bound + tolerance.state_abs * max(largest(x) for x in made_of)
        assert_close(state[key], want, bound, f"{what}: {key}")
    if "view" in state:
        assert state["view"].item() == step.view, f"{what}: view {state['view']}, want {step.view}"


class Pair:
    """One parameter and its twin in the oracle's hands."""

    def __init__(
        self, shape: Shape, p: torch.nn.Parameter, kind: str, options: dict[str, Any]
    ) -> None:
        """Start the twin at the parameter's values; options are those of its group."""
        self.shape, self.p, self.kind, self.options = shape, p, kind, options
        self.twin = p.detach().double().cpu()
        self.twin_state: dict[str, Any] = {}
        self.rng = generator(shape.seed + 1)
        self.exact_restart = p.dtype in (torch.bfloat16, torch.float16)
        self.latest = Step(self.twin, {}, 0, 1.0, self.twin)

    def advance(self, outcome: int, state: dict[str, Any]) -> None:
        """Draw the next gradient, hand it to both, and step the twin."""
        if self.exact_restart and state:
            self.twin = self.p.detach().double().cpu()
            keys = STATE_KEYS[self.kind]
            self.twin_state |= {key: state[key].detach().double().cpu() for key in keys}
        grad = scripted(self.twin, outcome, self.rng).to(self.p.dtype)
        self.p.grad = grad.to(self.p.device)
        store = self.p.dtype if self.exact_restart else torch.float64
        step = ORACLES[self.kind](self.twin, grad, self.twin_state, store=store, **self.options)
        assert step.margin > 1.5, f"{self.shape.name}: a cosine too near its bound to judge"
        self.latest, self.twin, self.twin_state = step, step.p, step.state

    def check(self, state: dict[str, Any], what: str) -> None:
        """Compare the parameter and its state with the twin's."""
        what = f"{what}, {self.shape.name} {self.shape.shape}"
        check_parameter(self.p, self.latest, float(self.options.get("lr", 1e-3)), what)
        check_state(state, self.p.grad, self.latest, what)


def run(optimizer: Any, pairs: list[Pair], script: tuple[int, ...]) -> None:
    """Step the optimizer through the script, comparing every pair after every step."""
    for number, outcome in enumerate(script, 1):
        for pair in pairs:
            pair.advance(outcome, optimizer.state.get(pair.p, {}))
        optimizer.step()
        for pair in pairs:
            pair.check(optimizer.state[pair.p], f"step {number}")
