"""Between steps an optimizer keeps nothing alive that its user has let go."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from conftest import Kind
from parity.layouts import contiguous, transposed
from parity.pairs import Pair, model, step_and_check
from parity.targets import Target

LAYOUTS = pytest.mark.parametrize("layout", (contiguous, transposed), ids=lambda f: f.__name__)


def stepped(kind: Kind, backend: Target, layout: Any = contiguous) -> tuple[Any, list[Parameter]]:
    """An optimizer over two weights and a bias, after two steps, its gradients gone."""
    shapes = ((40, 50), (6, 7), (9,))
    params = [Parameter(layout(torch.randn(shape, device=backend.device))) for shape in shapes]
    optimizer = kind.make(params, backend)
    for _ in range(2):
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()
    optimizer.zero_grad()
    return optimizer, params


def owners(tensor: Tensor) -> int:
    """How many tensors and others hold a tensor's memory; what counts is one of them."""
    return int(torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)) - 1


@LAYOUTS
def test_memory_has_one_owner(backend: Target, kind: Kind, layout: Any) -> None:
    """Weights, state and gradients belong to the tensors that the user sees, and to no one else."""
    optimizer, params = stepped(kind, backend, layout)
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer.step()
    for p in params:
        for tensor in (p, p.grad, *optimizer.state[p].values()):
            assert owners(tensor) == 1


def test_replaced_state_is_freed_at_once(backend: Target, kind: Kind) -> None:
    """What was offloaded or replaced goes before the next step, not with it."""
    optimizer, params = stepped(kind, backend)
    gone = []
    for state in optimizer.state.values():
        for key in list(state):
            gone.append(weakref.ref(state[key]))
            state[key] = state[key].clone()
    assert not any(ref() is not None for ref in gone)
    assert params


def test_removed_parameters_are_freed(backend: Target, kind: Kind) -> None:
    """A group and its state that were taken out are kept by nobody."""
    optimizer, params = stepped(kind, backend)
    gone = [weakref.ref(p) for p in params]
    optimizer.param_groups.clear()
    optimizer.state.clear()
    del params
    gc.collect()
    assert not any(ref() is not None for ref in gone)


class OwnsItsOptimizer(nn.Module):
    """A module in a cycle: its optimizer, and a hook on a gradient that knows the module."""

    def __init__(self, kind: Kind, backend: Target) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8, device=backend.device)
        self.norms: list[float] = []
        self.optimizer = kind.make(self.parameters(), backend)
        self.layer.weight.register_hook(lambda grad: self.norms.append(grad.norm().item()))


def test_cycles_are_collected(backend: Target, kind: Kind) -> None:
    """The garbage collector finds a module that owns the optimizer of its own weights."""
    module = OwnsItsOptimizer(kind, backend)
    module.layer(torch.randn(2, 8, device=backend.device)).sum().backward()
    module.optimizer.step()
    weight = weakref.ref(module.layer.weight)
    del module
    gc.collect()
    assert weight() is None


@pytest.fixture
def swapping() -> Iterator[None]:
    """Modules convert and load by swapping tensors, as a flag of torch asks for."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.usefixtures("swapping")
def test_modules_convert_by_swapping(backend: Target, kind: Kind) -> None:
    """After a step torch can swap the parameters; the next step is on what they are then."""
    layer = nn.Linear(8, 6, device=backend.device)
    optimizer = kind.make(layer.parameters(), backend)
    layer(torch.randn(2, 8, device=backend.device)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    loaded = {key: torch.randn_like(value) for key, value in layer.state_dict().items()}
    layer.load_state_dict(loaded)
    for p in layer.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    for key, value in layer.state_dict().items():
        assert 0 < (value - loaded[key]).abs().max() < 1
    optimizer.zero_grad()
    layer.double()
    assert layer.weight.dtype == torch.float64


def test_two_parameters_are_swapped(backend: Target, kind: Kind) -> None:
    """Each object then has the memory of the other, and both are stepped right."""
    optimizer, (one, other) = model(kind, backend, "odd", "odd")
    step_and_check(optimizer, [one, other], [0, 1], "before")
    optimizer.zero_grad()
    swap_twins(one, other)
    torch.utils.swap_tensors(one.p, other.p)
    step_and_check(optimizer, [one, other], [1, 0], "after")


def swap_twins(one: Pair, other: Pair) -> None:
    """What swapping does to the values; the state stays with the object."""
    one.twin, other.twin = other.twin, one.twin


@pytest.mark.parametrize("what", ["state", "weights"])
def test_new_tensors_at_old_addresses(backend: Target, kind: Kind, what: str) -> None:
    """Objects and memory of what has gone are used anew at once; the plan is not taken in."""
    optimizer, pairs = model(kind, backend, "odd", "conv" if not backend.slow else "bias")
    for number in range(6):
        step_and_check(optimizer, pairs, [number % 3] * len(pairs), f"step {number}")
        for pair in pairs:
            if what == "weights":
                values = pair.p.detach().clone()
                pair.p.data = torch.empty(0, device=backend.device)
                pair.p.data = values
                continue
            values = dict(optimizer.state[pair.p])
            optimizer.state[pair.p] = {}
            for key in list(values):
                kept = values.pop(key).tolist()
                like = {"dtype": torch.int32 if key == "view" else torch.float32}
                device = "cpu" if key == "step" else backend.device
                optimizer.state[pair.p][key] = torch.tensor(kept, **like, device=device)
