"""Runs of an optimizer on DTensors, beside the oracle of the whole tensors; in each process."""

import contextlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

import adamp_fused
from parity import oracle
from parity.gradients import generator, noise, scripted
from parity.stats_oracle import stats_of
from sharding import parts

ORACLES = {"AdamP": oracle.adamp_step, "SGDP": oracle.sgdp_step}


@dataclass(frozen=True)
class Sharded:
    """One parameter.

    Attributes:
        shape: of the whole.
        words: its placements (see ``parts``); None: a plain tensor.
        grad_words: of its gradient, where they differ.
        mesh: the shape of its own mesh, of as many processes; None: that of the case.
    """

    shape: tuple[int, ...]
    words: tuple[str, ...] | None
    grad_words: tuple[str, ...] | None = None
    mesh: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Case:
    """A run of some steps.

    Attributes:
        kind: the official class's name.
        backend: as the user passes it.
        mesh: its shape.
        groups: options of each group, and its parameters.
        script: the outcomes that the gradients of each step aim at, by parameter in turn.
        dtype: of everything.
        seed: of weights and gradients.
        options: of the optimizer.
        missing: steps and parameters that have no gradient then.
        max_grad_norm: of the optimizer.
        grad_scale: what GradScaler would have multiplied the gradients by.
        infinite: steps that are skipped since one process has found an infinity, and which one;
            -1: all have.
        stats: of the optimizer.
    """

    kind: str
    backend: str
    mesh: tuple[int, ...]
    groups: tuple[tuple[dict[str, Any], tuple[Sharded, ...]], ...]
    script: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    missing: frozenset[tuple[int, int]] = frozenset()
    max_grad_norm: float | None = None
    grad_scale: float | None = None
    infinite: dict[int, int] = field(default_factory=dict)
    stats: bool = False


@dataclass
class Found:
    """What one process saw.

    Attributes:
        error: the largest difference of a weight or a moment from the oracle's.
        wrong_views: steps in which an outcome was another.
        outcomes: how often each outcome occurred in tested tensors.
        collectives: the most in one step and process group, and how many in the whole step.
        numbers: how many numbers were added up in the last step.
        norm_error: the largest difference of the gradients' norm, relative.
        skipped: the skipped steps, less what the optimizer counted.
        stats_error: the largest difference of a number of ``stats()``, relative.
    """

    error: float = 0.0
    wrong_views: int = 0
    outcomes: Counter[int] = field(default_factory=Counter)
    collectives: tuple[int, int] = (0, 0)
    numbers: int = 0
    norm_error: float = 0.0
    skipped: int = 0
    stats_error: float = 0.0


@contextlib.contextmanager
def counted() -> Iterator[list[tuple[Any, int]]]:
    """The process group and the size of each all-reduce."""
    calls: list[tuple[Any, int]] = []
    original = dist.all_reduce

    def all_reduce(tensor: Tensor, *args: Any, group: Any = None, **kwargs: Any) -> Any:
        calls.append((group, tensor.numel()))
        return original(tensor, *args, group=group, **kwargs)

    dist.all_reduce = all_reduce
    try:
        yield calls
    finally:
        dist.all_reduce = original


def register_backend(name: str) -> None:
    """Make a backend of the tests known in this process."""
    if name == "emulated":
        import kernels.emulation.backend

        kernels.emulation.backend.register()


class Whole:
    """A parameter: its DTensor, and the whole tensor as the oracle has it."""

    def __init__(self, sharded: Sharded, case: Case, mesh: Any, options: dict[str, Any]) -> None:
        self.sharded, self.mesh, self.options, self.case = sharded, mesh, options, case
        self.p = torch.zeros(sharded.shape, dtype=torch.float64)
        self.state: dict[str, Any] = {}
        self.view = 0
        self.parameter = Parameter(self.p.to(case.dtype))

    def begin(self, weights: Tensor) -> None:
        """Set the weights."""
        self.p = weights
        self.parameter = Parameter(self.cut(weights, self.sharded.words))

    def cut(self, whole: Tensor, words: tuple[str, ...] | None) -> Tensor:
        """The tensor as the process has it."""
        stored = whole.to(self.case.dtype)
        if words is None:
            return stored.clone()
        return parts.distributed(stored, self.mesh, parts.placements_of(words, self.mesh))

    def part(self, whole: Tensor) -> Tensor:
        """What of a whole tensor is here."""
        if self.sharded.words is None:
            return whole
        return parts.part_of(whole, self.mesh, parts.placements_of(self.sharded.words, self.mesh))

    def step(self, grad: Tensor) -> oracle.Step:
        """The oracle's step."""
        step = ORACLES[self.case.kind](self.p, grad, self.state, **self.options)
        self.p, self.state, self.view = step.p, step.state, step.view
        return step


def local(tensor: Tensor) -> Tensor:
    """The local tensor, in float64."""
    here = tensor._local_tensor if hasattr(tensor, "_local_tensor") else tensor
    return here.detach().double()


def wholes_of(case: Case, mesh: Any) -> list[Whole]:
    """The parameters of a case, with weights."""
    rng = generator(case.seed)
    wholes = []
    for options, members in case.groups:
        merged = {**case.options, **options}
        merged.pop("capturable", None)  # how a step is made, not what it does
        for sharded in members:
            own_mesh = mesh if sharded.mesh is None else parts.mesh_of(sharded.mesh)
            whole = Whole(sharded, case, own_mesh, merged)
            whole.begin(noise(torch.Size(sharded.shape), rng))
            wholes.append(whole)
    return wholes


def make(case: Case, wholes: list[Whole], **options: Any) -> Any:
    """The optimizer of a case."""
    cls = getattr(adamp_fused, f"Fused{case.kind}")
    groups, left = [], iter(wholes)
    for own, members in case.groups:
        groups.append({**own, "params": [next(left).parameter for _ in members]})
    if case.grad_scale is not None:
        options["grad_scaling"] = True
    if case.max_grad_norm is not None:
        options["max_grad_norm"] = case.max_grad_norm
    if case.stats:
        options["stats"] = True
    return cls(groups, backend=case.backend, **{**case.options, **options})


def gradients(case: Case, wholes: list[Whole], number: int) -> list[Tensor]:
    """The gradients of one step, aimed at the outcomes of the script."""
    rng = generator(1000 * case.seed + number)
    script = case.script
    return [
        scripted(whole.p, script[(number + i) % len(script)], rng) for i, whole in enumerate(wholes)
    ]


def compare(found: Found, optimizer: Any, whole: Whole) -> None:
    """Add to ``found`` how a parameter and its state differ from the oracle's."""
    state = optimizer.state[whole.parameter]
    pairs = [(whole.parameter, whole.p)]
    pairs += [(state[k], v) for k, v in whole.state.items() if isinstance(v, Tensor)]
    for got, want in pairs:
        difference = (local(got) - whole.part(want)).abs()
        if difference.numel() > 0:
            found.error = max(found.error, difference.max().item())
    if "view" in state:
        found.outcomes[whole.view] += 1
        found.wrong_views += int(state["view"]) != whole.view


def run(case: Case) -> Found | None:
    """Step beside the oracle; None where this process is not in the mesh."""
    register_backend(case.backend)
    mesh = parts.mesh_of(case.mesh)
    if not parts.is_member(mesh):
        return None
    wholes = wholes_of(case, mesh)
    optimizer = make(case, wholes)
    found = Found()
    for number in range(len(case.script)):
        grads = gradients(case, wholes, number)
        present = [i for i in range(len(wholes)) if (number, i) not in case.missing]
        for i, (whole, grad) in enumerate(zip(wholes, grads, strict=True)):
            given, words = grad * (case.grad_scale or 1), whole.sharded.grad_words
            whole.parameter.grad = None
            if i in present:
                whole.parameter.grad = whole.cut(given, words or whole.sharded.words)
        skipping = give_scale(case, optimizer, number)
        with counted() as calls:
            optimizer.step()
        of_group = Counter(id(group) for group, _ in calls)
        most, total = found.collectives
        found.collectives = max([most, *of_group.values()]), max(total, len(calls))
        found.numbers = sum(count for _, count in calls)
        found.skipped += skipping and bool(present or optimizer.state)
        if present and not skipping:
            factor = clipped(case, found, optimizer, [grads[i] for i in present])
            if case.stats:
                compare_stats(found, optimizer, wholes, {i: grads[i] * factor for i in present})
            for i in present:
                wholes[i].step(grads[i] * factor)
        for whole in wholes:
            if optimizer.state.get(whole.parameter):
                compare(found, optimizer, whole)
    if optimizer.steps_skipped is not None:
        found.skipped -= int(optimizer.steps_skipped)
    return found


def compare_stats(
    found: Found, optimizer: Any, wholes: list[Whole], grads: dict[int, Tensor]
) -> None:
    """Compare ``stats()`` with the oracle's, which is still to make the step."""
    names = [
        f"group {index}, parameter {i}"
        for index, group in enumerate(optimizer.param_groups)
        for i in range(len(group["params"]))
    ]
    got = optimizer.stats()
    for i, grad in grads.items():
        whole = wholes[i]
        oracle_of = ORACLES[whole.case.kind]
        want = stats_of(oracle_of, whole.p, grad, whole.state, whole.options, oracle.exact)
        assert got[names[i]]["outcome"] == want.pop("outcome")
        for key in got[names[i]].keys() - {"outcome", "outcomes", "growth"}:
            value = want[key]
            # Beside 1, or the whole update: what is left of one that was removed is a difference.
            error = abs(got[names[i]][key] - value) / max(abs(value), 1, want["raw_norm"])
            found.stats_error = max(found.stats_error, error)


def give_scale(case: Case, optimizer: Any, number: int) -> bool:
    """Leave on the optimizer what GradScaler would; whether the step is to be skipped."""
    if case.grad_scale is None:
        return False
    finder = case.infinite.get(number)
    optimizer.grad_scale = torch.tensor(case.grad_scale)
    optimizer.found_inf = torch.tensor(float(finder in (dist.get_rank(), -1)))
    return finder is not None


def clipped(case: Case, found: Found, optimizer: Any, grads: list[Tensor]) -> float:
    """What the gradients are multiplied by, where they are clipped."""
    if case.max_grad_norm is None:
        return 1.0
    norm = math.sqrt(sum(grad.square().sum().item() for grad in grads))
    found.norm_error = max(found.norm_error, abs(float(optimizer.grad_norm) - norm) / max(norm, 1))
    return min(1.0, case.max_grad_norm / (norm + 1e-6))
