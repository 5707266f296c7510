"""A launch that fails has changed nothing, so that the step can be made again."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from adamp_fused.backends.reference import _ReferencePlan
from adamp_fused.backends.triton import backend as triton_backend
from adamp_fused.backends.triton.backend import load_kernels
from conftest import Kind
from optimizer.spoiling import fails_and_changes_nothing
from parity.cases import shapes
from parity.gradients import SCRIPT
from parity.pairs import model, run, weights
from parity.targets import TARGETS

TRITON = next(target for target in TARGETS if target.name == "triton")


@pytest.fixture
def kernels() -> Any:
    """The module of the Triton kernels."""
    found, missing = load_kernels()
    if found is None:
        pytest.skip(f"Triton is not installed: {missing}")
    return found


class Failing:
    """In place of a kernel: what Triton raises where one does not compile, or needs too much.

    kernel: does the work. fails: whether one with these options fails. at: "warmup" or "launch".
    """

    def __init__(self, kernel: Any, fails: Callable[[dict[str, Any]], bool], at: str) -> None:
        self._kernel, self._fails, self._at = kernel, fails, at

    def _check(self, at: str, options: dict[str, Any]) -> None:
        if at == self._at and self._fails(options):
            raise RuntimeError("out of resource")

    def warmup(self, *args: Any, **options: Any) -> Any:
        """Compile, or fail."""
        self._check("warmup", options)
        return self._kernel.warmup(*args, **options)

    def __getitem__(self, grid: Any) -> Any:
        def launch(*args: Any, **options: Any) -> Any:
            self._check("launch", options)
            return self._kernel[grid](*args, **options)

        return launch


def test_triton(kind: Kind, monkeypatch: pytest.MonkeyPatch, kernels: Any) -> None:
    """Neither values nor step counts nor versions; the next step is the one that failed."""
    optimizer, pairs = model(kind, TRITON)
    run(optimizer, pairs, SCRIPT[:2])
    tensors = [t for pair in pairs for t in (pair.p, *optimizer.state[pair.p].values())]
    before = [(t.tolist(), t._version) for t in tensors]
    with monkeypatch.context() as patched:
        failing = Failing(kernels.step_kernel, lambda options: True, "launch")
        patched.setattr(kernels, "step_kernel", failing)
        for pair in pairs:
            pair.p.grad = pair.p.detach().cos()
        with pytest.raises(RuntimeError, match="out of resource"):
            optimizer.step()
    assert [(t.tolist(), t._version) for t in tensors] == before
    run(optimizer, pairs, SCRIPT[2:5])


def two_dtypes(kind: Kind) -> tuple[Any, list[Parameter]]:
    """An optimizer with a launch for each of two types, stepped once."""
    params = [
        weights(*shapes("odd"), dtype=dtype, device=TRITON.device)
        for dtype in (torch.float32, torch.float64)
    ]
    optimizer = kind.make(params, TRITON)
    give_gradients(params)
    optimizer.step()
    return optimizer, params


def give_gradients(params: list[Parameter]) -> None:
    """New gradients for all of them."""
    for p in params:
        p.grad = p.detach().cos()


def fails_in_the_second(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing compiles for float64."""
    second = kernels.TYPES["torch.float64"]
    failing = Failing(kernels.step_kernel, lambda options: options["DTYPE"] == second, "warmup")
    monkeypatch.setattr(kernels, "step_kernel", failing)


def test_second_launch_does_not_compile(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, kernels: Any
) -> None:
    """The first has not been launched."""
    optimizer, params = two_dtypes(kind)
    again = kind.make(params, TRITON)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    give_gradients(params)
    fails_in_the_second(kernels, monkeypatch)
    assert "out of resource" in str(fails_and_changes_nothing(again, params))


def test_launch_that_is_needed_later_does_not_compile(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, kernels: Any
) -> None:
    """A type whose gradients come late is compiled then, and before the others are launched."""
    optimizer, params = two_dtypes(kind)
    again = kind.make(params, TRITON)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    fails_in_the_second(kernels, monkeypatch)
    params[1].grad = None
    give_gradients(params[:1])
    again.step()
    give_gradients(params)
    assert "out of resource" in str(fails_and_changes_nothing(again, params))
    monkeypatch.undo()
    give_gradients(params)
    again.step()


def test_table_of_the_second_launch_fails(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, kernels: Any
) -> None:
    """As where memory is short: the first has not been launched."""
    optimizer, params = two_dtypes(kind)
    step_table = triton_backend._Launch._step_table

    def fails(launch: Any, *inputs: Any) -> Any:
        if launch._real == torch.float64:
            raise RuntimeError("out of memory")
        return step_table(launch, *inputs)

    monkeypatch.setattr(triton_backend._Launch, "_step_table", fails)
    give_gradients(params)
    assert "out of memory" in str(fails_and_changes_nothing(optimizer, params))
    monkeypatch.undo()
    give_gradients(params)
    optimizer.step()
    assert all(s["step"] == 2 for s in optimizer.state.values() if "step" in s)


def test_no_plan_runs_before_all_are_prepared(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """An optimizer of two devices, of which the second runs out of memory."""
    params = [Parameter(torch.ones(3, 4)), Parameter(torch.ones(3, 4, device="meta"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the second parameter is the reference's
        optimizer = kind.make(params)
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
    before = params[0].tolist()

    def out_of_memory(plan: Any, control: Any = None) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(_ReferencePlan, "prepare", out_of_memory)
        with pytest.raises(MemoryError):
            optimizer.step()
    assert params[0].tolist() == before
    optimizer.step()
    assert params[0].tolist() != before
