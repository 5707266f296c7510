"""Python threads that share an optimizer, or that change what a step works on."""

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from conftest import Kind
from parity.targets import Target

STEPS, THREADS = 12, 4


def in_threads(bodies: list[Callable[[], None]]) -> None:
    """Run each body in a thread of its own; one that hangs or raises fails the test."""
    errors: list[BaseException] = []

    def guarded(body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def make(kind: Kind, backend: Target, rows: int) -> tuple[Any, list[Parameter]]:
    """Weights with the same gradient at every step."""
    torch.manual_seed(0)
    params = [Parameter(torch.randn(rows, 40, device=backend.device)) for _ in range(3)]
    for p in params:
        p.grad = torch.randn_like(p)
    return kind.make(params, backend), params


@pytest.mark.parametrize("rows", [5, 20_000], ids=["short", "long"])
def test_steps_follow_one_another(backend: Target, kind: Kind, rows: int, threads: Any) -> None:
    """As many steps as were asked for, to the bits of one thread. Long ones free Python's lock."""
    if backend.name != "cpu" and rows > 5:
        pytest.skip("only the cpu backend waits for its own work")
    threads(2)
    optimizer, params = make(kind, backend, rows)
    alone, want = make(kind, backend, rows)
    steps = STEPS if rows > 5 or backend.slow else 10 * STEPS
    for _ in range(THREADS * (steps // THREADS)):
        alone.step()

    def body() -> None:
        for _ in range(steps // THREADS):
            optimizer.step()

    in_threads([body] * THREADS)
    for p, q in zip(params, want, strict=True):
        assert torch.equal(p, q)
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, alone.state[q][key]), key


def test_state_may_be_replaced_while_a_step_runs(kind: Kind, threads: Any) -> None:
    """Memory that a step works on stays until it has ended, whatever another thread drops."""
    threads(2)
    params = [Parameter(torch.randn(4096, 512)) for _ in range(2)]
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer = kind.make(params)
    optimizer.step()
    done = threading.Event()

    def step() -> None:
        for _ in range(40):
            optimizer.step()
        done.set()

    def replace() -> None:
        while not done.is_set():
            for p in params:
                state = optimizer.state[p]
                for key in list(state):
                    state[key] = state[key].clone()
                p.data = p.data.clone()
                p.grad = p.grad.clone()

    in_threads([step, replace])
    assert all(p.isfinite().all() for p in params)


def test_a_step_within_a_step_is_refused(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a hang nor half a step twice; the optimizer goes on afterwards."""
    p = Parameter(torch.ones(3, 4))
    optimizer = kind.make([p], backend=None)
    p.grad = torch.ones_like(p)
    checked = optimizer._checked_slots
    monkeypatch.setattr(optimizer, "_checked_slots", lambda: optimizer.step() or checked())
    with pytest.raises(RuntimeError, match="within a step of the same optimizer"):
        optimizer.step()
    assert p.eq(1).all()
    monkeypatch.undo()
    optimizer.step()
    assert not p.eq(1).any()


def test_copies_have_a_lock_of_their_own(backend: Target, kind: Kind) -> None:
    """A lock can be neither pickled nor copied, and is not a part of what an optimizer is."""
    optimizer, _ = make(kind, backend, 5)
    optimizer.step()
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        for group in other.param_groups:
            for p in group["params"]:
                p.grad = torch.ones_like(p)
        in_threads([other.step])
    optimizer.load_state_dict(optimizer.state_dict())
    in_threads([optimizer.step])
