"""A run repeats bit for bit: again, cut by a checkpoint, and with another number of threads."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from conftest import Kind
from parity.cases import DECAY
from parity.gradients import generator, scripted
from parity.oracle import CHANNEL, LAYER, NONE
from parity.pairs import weights
from parity.targets import Target

Grads = list[list[Tensor]]


class Run:
    """Parameters and their optimizer, stepped with gradients that are recorded or replayed."""

    def __init__(self, kind: Kind, backend: Target, dtype: torch.dtype) -> None:
        """Start from the same weights every time."""
        if backend.slow and dtype == torch.float64:
            pytest.skip(f"{backend.label}: slow, two types are enough")
        self.params = [weights(shape, dtype, backend.device) for shape in backend.few]
        self.optimizer = kind.make(self.params, backend, **DECAY)
        self.script = backend.script

    def record(self) -> Grads:
        """Step through the script and give the gradients that led there."""
        rng, grads, seen = generator(0), [], set()
        for number in range(len(self.script)):
            drawn = []
            for index, p in enumerate(self.params):
                outcome = self.script[(number + index) % len(self.script)]
                drawn.append(scripted(p.detach().double().cpu(), outcome, rng).to(p))
            grads.append(drawn)
            self.replay([drawn])
            seen |= {s["view"].item() for s in self.optimizer.state.values() if "view" in s}
        assert seen == {NONE, CHANNEL, LAYER}
        return grads

    def replay(self, grads: Grads) -> "Run":
        """Step with given gradients."""
        for step in grads:
            for p, grad in zip(self.params, step, strict=True):
                p.grad = grad.clone()
            self.optimizer.step()
        return self

    def bits(self) -> list[Tensor]:
        """Weights and all state, in a fixed order."""
        states = [self.optimizer.state[p] for p in self.params]
        return [*self.params, *(state[key] for state in states for key in sorted(state))]


def assert_same_bits(first: Run, second: Run) -> None:
    """Demand equal bits of all weights and state."""
    assert len(first.bits()) == len(second.bits())
    for a, b in zip(first.bits(), second.bits(), strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


def resumed(kind: Kind, backend: Target, dtype: torch.dtype, run: Run, file: Path) -> Run:
    """A new run from a file, as a new process would load it."""
    torch.save({"params": run.params, "optimizer": run.optimizer.state_dict()}, file)
    saved = torch.load(file, weights_only=True)
    other = Run(kind, backend, dtype)
    for p, values in zip(other.params, saved["params"], strict=True):
        p.data.copy_(values.data)
    other.optimizer.load_state_dict(saved["optimizer"])
    return other


TYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16], ids=lambda dtype: str(dtype)[6:]
)


@TYPES
def test_run_repeats(backend: Target, kind: Kind, dtype: torch.dtype) -> None:
    """Two runs from the same start agree."""
    first = Run(kind, backend, dtype)
    grads = first.record()
    assert_same_bits(first, Run(kind, backend, dtype).replay(grads))


@TYPES
def test_cut_run_repeats(backend: Target, kind: Kind, dtype: torch.dtype, tmp_path: Path) -> None:
    """A run cut by state_dict, file and load_state_dict every third step agrees with one uncut."""
    whole = Run(kind, backend, dtype)
    grads = whole.record()
    cut = Run(kind, backend, dtype)
    for number, step in enumerate(grads):
        if number % 3 == 1:
            cut = resumed(kind, backend, dtype, cut, tmp_path / "checkpoint.pt")
        cut.replay([step])
    assert_same_bits(whole, cut)


def test_state_dict_changes_nothing(backend: Target, kind: Kind) -> None:
    """Looking at the state between steps leaves the run as it is."""
    first = Run(kind, backend, torch.float32)
    grads = first.record()
    second = Run(kind, backend, torch.float32)
    for step in grads:
        second.replay([step]).optimizer.state_dict()
    assert_same_bits(first, second)


@TYPES
def test_threads(kind: Kind, dtype: torch.dtype, backend: Target, threads: Any) -> None:
    """One, two or five threads give the same bits."""
    if backend.device != "cpu" or backend.slow:
        pytest.skip(f"{backend.label}: torch's threads do not take part")
    threads(1)
    first = Run(kind, backend, dtype)
    grads = first.record()
    for count in (2, 5):
        threads(count)
        assert_same_bits(first, Run(kind, backend, dtype).replay(grads))


@TYPES
@pytest.mark.parametrize("nesterov", [False, True], ids=["", "nesterov"])
def test_company(kind: Kind, nesterov: bool, dtype: torch.dtype, backend: Target) -> None:
    """A layer comes to the same bits alone and beside one that leaves no buffer for its u."""
    if backend.name != "cpu":
        pytest.skip(f"{backend.label}: keeps no u of tensors that wait to be decided")

    def layer(rows: int) -> Parameter:
        return Parameter(torch.randn(rows, 512, generator=generator(rows)).to(dtype))

    # With the first's, the 2 MiB that u may take are full (csrc/cpu/executor.cpp).
    first = layer(512 if dtype == torch.float64 else 1024)
    alone, crowded = layer(511), layer(511)
    options = DECAY | {"projection": "layer", "nesterov": nesterov}
    optimizers = [kind.make(params, backend, **options) for params in ([alone], [first, crowded])]
    rng = generator(0)
    for _ in range(3):
        first.grad = torch.ones_like(first)
        alone.grad = torch.randn(alone.shape, generator=rng).to(dtype)
        crowded.grad = alone.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    states = [optimizers[0].state[alone], optimizers[1].state[crowded]]
    assert torch.equal(alone, crowded)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
