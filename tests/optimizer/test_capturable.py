"""capturable=True: the count lives on the device and nothing waits for it, or a clear error."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import Kind
from optimizer.spoiling import WRONG, fails_and_changes_nothing
from parity.cases import DECAY, shapes
from parity.gradients import SCRIPT
from parity.pairs import model, run, weights
from parity.targets import GPU, TARGETS, Target

READS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.nonzero.default,
}


# Addresses, and whether there are any.
TABLES = {"triton": (torch.int64, torch.bool)}


class NoReads(TorchDispatchMode):
    """Refuses every operation that hands a tensor's value to the host, whatever its device.

    ``of_tables``: types of a backend's tables on the host, which nobody waits for.
    """

    def __init__(self, lr: Any, of_tables: tuple[torch.dtype, ...] = ()) -> None:
        """A learning rate that is on the host already may be read."""
        super().__init__()
        self.on_host = lr.data_ptr() if isinstance(lr, torch.Tensor) and lr.is_cpu else None
        self.of_tables = of_tables

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Pass on what computes."""
        read = func in READS and args[0].dtype not in self.of_tables
        if read and args[0].data_ptr() != self.on_host:
            raise AssertionError(f"{func} would wait for the device")
        return func(*args, **(kwargs or {}))


def capturable(backend: Target, kind: Kind, **options: Any) -> Any:
    """A capturable optimizer with its pairs."""
    reason = backend.unavailable(capturable=True)
    if reason:
        pytest.skip(reason)
    _, pairs = model(kind, backend, **options)
    params = [pair.p for pair in pairs]
    return kind.make(params, backend, capturable=True, **DECAY, **options), pairs


def test_reference_honours_it() -> None:
    """One backend at least does, so that the tests below are run."""
    assert not next(t for t in TARGETS if t.name == "reference").unavailable(capturable=True)


def test_honoured_or_refused(backend: Target, kind: Kind) -> None:
    """A backend that cannot do it says so at construction, with a way out."""
    reason = backend.unavailable(capturable=True)
    p = weights(*shapes("odd"), device=backend.device)
    if not reason:
        assert kind.make([p], backend, capturable=True).param_groups[0]["capturable"]
        return
    with pytest.raises(WRONG) as caught:
        kind.make([p], backend, capturable=True)
    message = str(caught.value)
    assert "capturable" in message and backend.name in message
    assert "reference" in message or "capturable=False" in message, f"no remedy: {message}"


def test_default_backend_honours_it(kind: Kind) -> None:
    """Without a choice of backend one is found that does."""
    _, pairs = model(kind, TARGETS[0])
    optimizer = kind.make([pair.p for pair in pairs], capturable=True, **DECAY)
    run(optimizer, pairs, SCRIPT[:3])


def test_matches(backend: Target, kind: Kind) -> None:
    """The same values, and `step` beside the weights."""
    optimizer, pairs = capturable(backend, kind)
    run(optimizer, pairs, SCRIPT[:6])
    for pair in pairs if kind.name == "AdamP" else ():
        step = optimizer.state[pair.p]["step"]
        assert step.device == pair.p.device and step.shape == () and step.item() == 6


def test_addresses_stay(backend: Target, kind: Kind) -> None:
    """A step changes weights and state where they are, as the replay of a graph demands."""
    optimizer, pairs = capturable(backend, kind)
    run(optimizer, pairs, SCRIPT[:1])
    tensors = [x for pair in pairs for x in (pair.p, *optimizer.state[pair.p].values())]
    before = [x.data_ptr() for x in tensors]
    run(optimizer, pairs, SCRIPT[1:4])
    tensors = [x for pair in pairs for x in (pair.p, *optimizer.state[pair.p].values())]
    assert before == [x.data_ptr() for x in tensors]


@pytest.mark.parametrize("tensor_lr", [False, True])
def test_no_value_is_read(backend: Target, kind: Kind, tensor_lr: bool) -> None:
    """A step reads no tensor's value on the host, the first one included."""
    lr = torch.tensor(0.02, device=backend.device) if tensor_lr else 0.02
    optimizer, pairs = capturable(backend, kind, lr=lr)
    for outcome in SCRIPT[:3]:
        for pair in pairs:
            pair.options["lr"] = 0.02
            pair.advance(outcome, optimizer.state.get(pair.p, {}))
        with NoReads(lr, TABLES.get(backend.name, ())):
            optimizer.step()
        for pair in pairs:
            pair.check(optimizer.state[pair.p], "without reads")


@pytest.mark.skipif(not GPU, reason="only a GPU is waited for")
@pytest.mark.parametrize(
    "options",
    [{}, {"capturable": True}, {"grad_scaling": True}, {"max_grad_norm": 1.0}],
    ids=["plain", "capturable", "scaled", "clipped"],
)
def test_host_does_not_wait(backend: Target, kind: Kind, options: dict[str, Any]) -> None:
    """No step synchronises with the device, whatever has a say in it."""
    if backend.device == "cpu":
        pytest.skip(f"{backend.label} runs on the host")
    _, pairs = model(kind, backend)
    optimizer = kind.make([pair.p for pair in pairs], backend, **options)
    for pair in pairs:
        pair.p.grad = torch.ones_like(pair.p)
    if "grad_scaling" in options:
        optimizer.grad_scale = torch.tensor(2.0, device=backend.device)
        optimizer.found_inf = torch.tensor(0.0, device=backend.device)
    optimizer.step()
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not GPU, reason="only a GPU has streams")
def test_step_on_another_stream(backend: Target, kind: Kind) -> None:
    """Steps follow the stream that is current, to the same values."""
    if backend.device == "cpu":
        pytest.skip(f"{backend.label} runs on the host")
    optimizer, pairs = model(kind, backend)
    side = torch.cuda.Stream()
    for begin in range(0, 6, 2):
        run(optimizer, pairs, SCRIPT[begin : begin + 1])
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run(optimizer, pairs, SCRIPT[begin + 1 : begin + 2])
        torch.cuda.current_stream().wait_stream(side)


def test_set_later(backend: Target, kind: Kind) -> None:
    """Switched on in a group between steps, it is honoured or refused before any change."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:3])
    optimizer.param_groups[0]["capturable"] = True
    if backend.unavailable(capturable=True):
        error = fails_and_changes_nothing(optimizer, [pair.p for pair in pairs])
        assert "capturable" in str(error)
        optimizer.param_groups[0]["capturable"] = False
    run(optimizer, pairs, SCRIPT[3:6])


def test_capture_without_it(backend: Target, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that would repeat one step's count for ever is refused before any change."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:2])
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: True)
    error = fails_and_changes_nothing(optimizer, [pair.p for pair in pairs])
    assert "graph" in str(error) and "capturable=True" in str(error)
