"""Which backend serves which device, and what is said where none can."""

import linecache
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from adamp_fused._warnings import warn_once
from adamp_fused.backends.registry import BACKENDS
from conftest import Kind
from parity.cases import shapes
from parity.oracle import LAYER
from parity.pairs import weights
from parity.targets import GPU, TARGETS

WRONG = (ValueError, TypeError, RuntimeError)
CPU = torch.device("cpu")


def test_order_of_preference() -> None:
    """The best one first."""
    ours = ["cuda", "triton", "cpu", "reference"]
    assert [name for name in BACKENDS if name in ours] == ours


def test_reference_serves_everything() -> None:
    """The fallback is always there."""
    for device in ("cpu", "cuda", "meta"):
        for capturable in (False, True):
            assert BACKENDS["reference"].unavailable(torch.device(device), capturable) is None


@pytest.mark.parametrize("wrong", ["CUDA", "torch", "", 3, ["cpu"]])
def test_unknown_name(kind: Kind, wrong: object) -> None:
    """An unknown backend is refused with the names that there are."""
    p = weights(*shapes("odd"))
    with pytest.raises(WRONG) as caught:
        type(kind.make([p]))([p], lr=0.1, backend=wrong)
    for name in (repr(wrong), *map(repr, BACKENDS)):
        assert name in str(caught.value)


def test_not_an_option_of_a_group(kind: Kind) -> None:
    """A backend named in a group is refused there, rather than passed over."""
    group = {"params": [weights(*shapes("odd"))], "backend": "reference"}
    with pytest.raises(WRONG, match=r"'reference'.*group.*pass it to the optimizer"):
        kind.make([group])


@pytest.mark.parametrize("name", ["cuda", "triton", "cpu"])
def test_device_it_cannot_serve(kind: Kind, name: str) -> None:
    """A backend asked for a device that it cannot serve says so before anything has changed."""
    device = "cuda" if name == "cpu" and GPU else "cpu" if name == "cuda" else "meta"
    reason = BACKENDS[name].unavailable(torch.device(device), False)
    assert reason, f"{name} claims to serve {device}"
    p = Parameter(torch.ones(3, 4, device=device))
    p.grad = torch.ones_like(p)
    cls = type(kind.make([weights(*shapes("odd"))]))
    with pytest.raises(WRONG) as caught:
        cls([p], lr=0.1, backend=name).step()
    assert name in str(caught.value) and device in str(caught.value)
    assert "backend=" in str(caught.value), f"no remedy: {caught.value}"
    assert p._version == 0


def test_default_on_cpu(kind: Kind) -> None:
    """Without a choice CPU parameters get the native kernel where built, never an interpreter."""
    best = "reference" if BACKENDS["cpu"].unavailable(CPU, False) else "cpu"
    results = []
    for name in (None, best):
        p = weights(*shapes("longer_than_blocks"))
        p.grad = p.detach().cos()
        type(kind.make([p]))([p], lr=0.1, backend=name).step()
        results.append(p.detach())
    assert torch.equal(*results)


def test_triton_needs_its_interpreter_on_cpu() -> None:
    """Without TRITON_INTERPRET the reason names it; a process of its own, as it is read once."""
    code = (
        "import torch; from adamp_fused.backends.registry import BACKENDS; "
        "print(BACKENDS['triton'].unavailable(torch.device('cpu'), False))"
    )
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert "None" not in done.stdout and done.stdout.strip()


def test_fallback_is_told_where_the_user_is(kind: Kind) -> None:
    """The warning points at the user's line: a constructor, an own class, a later group."""
    cls = type(kind.make([weights(*shapes("odd"))]))

    class Own(cls):
        def __init__(self, params: Any) -> None:
            super().__init__(params)  # Own

    optimizer = kind.make([weights(*shapes("odd"))])
    meta = [Parameter(torch.ones(3, 4, device="meta"))]
    calls = {
        "cls(meta)": lambda: cls(meta),
        "super().__init__(params)  # Own": lambda: Own(meta),
        "add_param_group": lambda: optimizer.add_param_group({"params": meta}),
    }
    for wanted, call in calls.items():
        warn_once.cache_clear()
        with pytest.warns(match="with the reference backend") as caught:
            call()
        (warning,) = caught
        assert warning.filename == __file__
        assert wanted in linecache.getline(warning.filename, warning.lineno)


@pytest.mark.skipif(not GPU, reason="needs two kinds of devices")
def test_devices_together(kind: Kind) -> None:
    """Parameters on a CPU and on a GPU share an optimizer; each is served by its own backend."""
    params = [weights(*shapes("odd"), device=device) for device in ("cpu", "cuda", "cpu")]
    optimizer = kind.make(params)
    for p in params:
        p.grad = p.detach().sin()
    optimizer.step()
    torch.testing.assert_close(params[0], params[1].cpu())


@pytest.mark.filterwarnings("ignore:adamp_fused steps parameters on 'meta'")
def test_second_device_gets_gradients_late(kind: Kind) -> None:
    """Parameters of a device on which none had a gradient at first are stepped all the same."""
    params = [weights(*shapes("odd")), Parameter(torch.ones(3, 4, device="meta"))]
    optimizer = kind.make(params)
    params[0].grad = params[0].detach().sin()
    optimizer.step()
    params[1].grad = torch.ones_like(params[1])
    optimizer.step()
    assert params[1] in optimizer.state and params[1]._version > 0


def test_targets_name_backends() -> None:
    """Every entry of the list of targets names a backend that exists, and none is forgotten."""
    assert {target.name for target in TARGETS} <= set(BACKENDS)
    assert {"reference", "cpu", "triton", "cuda"} <= {target.name for target in TARGETS}


def test_view_is_an_int32_on_the_parameters_device(kind: Kind) -> None:
    """The outcome is a 0-dim int32 beside the weights, only where a test is made."""
    for projection, shape in (("auto", "odd"), ("auto", "bias"), ("layer", "odd")):
        p = weights(*shapes(shape))
        p.grad = torch.ones_like(p)
        optimizer = kind.make([p], projection=projection)
        optimizer.step()
        state = optimizer.state[p]
        assert ("view" in state) == (projection == "auto" and shape == "odd")
        if "view" in state:
            assert state["view"].dtype == torch.int32 and state["view"].shape == ()
            assert state["view"].device == p.device and state["view"].item() <= LAYER
