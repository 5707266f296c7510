"""CUDA graphs: a captured step, replayed, is the step; what a graph could not repeat is refused.

Where there is no GPU the emulated device stands in: a graph that keeps the arguments of a launch.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from adamp_fused import _graphs
from adamp_fused.backends.registry import BACKENDS
from conftest import Kind
from optimizer.spoiling import fails_and_changes_nothing
from parity.targets import GPU, Target

pytestmark = pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")


class Graphs:
    """Capture and replay on the device of a backend."""

    def __init__(self, backend: Target) -> None:
        self.backend = backend
        self.graph: Any = None

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Whatever is launched goes into the graph."""
        if self.backend.device != "cpu":
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                yield
            return
        emulated: Any = BACKENDS[self.backend.name]
        with pytest.MonkeyPatch.context() as patch, emulated.capture():
            patch.setattr(_graphs, "is_capturing", lambda: True)
            patch.setattr(_graphs, "captured_device", lambda: torch.device("cpu"))
            yield

    def replay(self) -> None:
        """Run what was captured."""
        if self.graph is not None:
            self.graph.replay()
        else:
            emulated: Any = BACKENDS[self.backend.name]
            assert emulated.replay() > 0


@pytest.fixture
def graphs(backend: Target) -> Graphs:
    """Backends on a device that has graphs."""
    if backend.device == "cpu" and backend.name != "emulated":
        pytest.skip(f"{backend.label}: graphs are of a GPU, or of the emulated one")
    return Graphs(backend)


SHAPES = ((40, 401), (7, 13), (33,), (700, 3), (2, 8193), (5, 6, 3, 3))


def made(kind: Kind, backend: Target, shapes: Any = SHAPES, **options: Any) -> Any:
    """Parameters whose gradients stay where they are, an optimizer, and tensors lr and decay."""
    rng = torch.Generator().manual_seed(7)
    params = [Parameter(torch.randn(shape, generator=rng).to(backend.device)) for shape in shapes]
    for p in params:
        p.grad = torch.zeros_like(p)
    lr, decay = (torch.tensor(x, device=backend.device) for x in (0.05, 0.1))
    options = {"lr": lr, "weight_decay": decay, "capturable": True} | options
    return params, kind.make(params, backend, **options), lr, decay


def give(params: list[Parameter], step: int) -> None:
    """New gradients in the old places; some rows along their weights, so that outcomes change."""
    rng = torch.Generator().manual_seed(step)
    for i, p in enumerate(params):
        assert p.grad is not None
        along = p.detach() if (step // 2 + i) % 3 == 0 else 0
        p.grad.copy_(torch.randn(p.shape, generator=rng).to(p.device) + along)


def everything(params: list[Parameter], optimizer: Any) -> list[Tensor]:
    """Weights and state."""
    states = [optimizer.state[p] for p in params]
    return [*(p.detach() for p in params), *(v for s in states for v in s.values())]


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}], ids=["plain", "clipped"])
@pytest.mark.parametrize(
    ("shapes", "emulated"),
    [(SHAPES, 7), (((7, 13), (33,)), 100), (((3, 2),) * 1000, 3)],
    ids=["all kinds", "many replays", "more tensors than a launch holds"],
)
def test_replays(
    kind: Kind, graphs: Graphs, shapes: Any, emulated: int, options: dict[str, Any]
) -> None:
    """Replays come to the bits of eager steps, whatever a scheduler does to lr and decay."""
    replays = 100 if GPU else emulated
    results = []
    for captured in (False, True):
        params, optimizer, lr, decay = made(kind, graphs.backend, shapes, **options)
        give(params, 0)
        optimizer.step()
        if captured:
            before = [x.clone() for x in everything(params, optimizer)]
            with graphs.capture():
                optimizer.step()
            # A capture runs nothing.
            assert all(map(torch.equal, before, everything(params, optimizer)))
        for step in range(1, replays):
            give(params, step)
            lr.fill_(0.05 / step)
            decay.fill_(0.1 * step)
            if captured:
                graphs.replay()
            else:
                optimizer.step()
        results.append([x.clone() for x in everything(params, optimizer)])
        if options:
            results[-1].append(optimizer.grad_norm.clone())
    assert all(map(torch.equal, *results))


def test_eager_steps_between(kind: Kind, graphs: Graphs) -> None:
    """A plan that a graph uses serves eager steps, too, and another plan takes nothing from it."""
    results = []
    for captured in (False, True):
        params, optimizer, _, _ = made(kind, graphs.backend)
        give(params, 0)
        optimizer.step()
        if captured:
            with graphs.capture():
                optimizer.step()
        for step in range(1, 8):
            give(params, step)
            if captured and step % 2:
                graphs.replay()
            else:
                optimizer.step()
            if step == 3:  # a plan is made anew
                optimizer.param_groups[0]["projection"] = "auto"
                more = Parameter(torch.ones(3).to(params[0].device))
                optimizer.add_param_group({"params": [more]})
        results.append([x.clone() for x in everything(params, optimizer)])
    assert all(map(torch.equal, *results))


def test_scaled(kind: Kind, graphs: Graphs) -> None:
    """A replay looks at found_inf anew, and its skipped steps are counted."""
    params, optimizer, _, _ = made(kind, graphs.backend, grad_scaling=True)
    device = graphs.backend.device
    optimizer.grad_scale = torch.tensor(4.0, device=device)
    optimizer.found_inf = found = torch.zeros((), device=device)
    give(params, 0)
    optimizer.step()
    with graphs.capture():
        optimizer.step()
    for step in range(1, 6):
        give(params, step)
        found.fill_(step % 2)
        before = [x.clone() for x in everything(params, optimizer)]
        graphs.replay()
        same = list(map(torch.equal, before, everything(params, optimizer)))
        assert all(same) if step % 2 else not any(same[: len(params)])
    assert optimizer.steps_skipped.item() == 3
    for p in params if kind.name == "AdamP" else ():
        assert optimizer.state[p]["step"].item() == 3


def refused(graphs: Graphs, optimizer: Any, params: list[Parameter]) -> str:
    """Demand an error in a capture, and nothing changed."""
    with graphs.capture():
        return str(fails_and_changes_nothing(optimizer, params))


@pytest.mark.skipif(GPU, reason="an error ends a real capture, and the test with it")
def test_refused(kind: Kind, graphs: Graphs) -> None:
    """What a graph could not repeat: named, with a way out, before anything has changed."""
    params, optimizer, _, _ = made(kind, graphs.backend)
    assert "call step() once before the capture" in refused(graphs, optimizer, params)
    give(params, 0)
    optimizer.step()
    grad, params[1].grad = params[1].grad, None
    message = refused(graphs, optimizer, params)
    assert "parameter 1 of group 0 has no gradient" in message and "call backward()" in message
    params[1].grad = grad
    optimizer.state[params[0]]["view"] = optimizer.state[params[0]]["view"].clone()
    assert "has to be planned first" in refused(graphs, optimizer, params)
    optimizer.step()
    optimizer.param_groups[0]["capturable"] = False
    assert "use capturable=True" in refused(graphs, optimizer, params)
    optimizer.param_groups[0]["capturable"] = True
    optimizer.step()
    wide = torch.tensor(0.1, dtype=torch.float64, device="meta")
    optimizer.param_groups[0]["lr"], lr = wide, optimizer.param_groups[0]["lr"]
    assert "use a float32 tensor" in refused(graphs, optimizer, params)
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()
    with graphs.capture(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_graphs, "captured_device", lambda: torch.device("cuda", 1))
        message = str(fails_and_changes_nothing(optimizer, params))
    assert "a CUDA graph of 'cuda:1'" in message and "an optimizer for each device" in message
    optimizer.step()
    with graphs.capture():
        optimizer.step()


def test_frozen_parameters(kind: Kind, graphs: Graphs) -> None:
    """One that needs no gradient needs none in a graph either."""
    params, optimizer, _, _ = made(kind, graphs.backend)
    params[1].requires_grad_(False)
    params[1].grad = None
    give([p for p in params if p.grad is not None], 0)
    optimizer.step()
    with graphs.capture():
        optimizer.step()
    graphs.replay()


def test_release(kind: Kind, graphs: Graphs) -> None:
    """What is kept for graphs is kept until it is released; the optimizer goes on."""
    params, optimizer, _, _ = made(kind, graphs.backend)
    give(params, 0)
    optimizer.step()
    with graphs.capture():
        optimizer.step()
    assert optimizer._captured
    copied = copy.deepcopy(optimizer)
    assert not copied._captured
    optimizer.release()
    assert not optimizer._captured and not optimizer._plans
    optimizer.step()
