"""Models without memory: under FakeTensorMode, and on meta, a step makes the state and no more."""

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import Parameter

from conftest import Kind
from parity.targets import GPU, TARGETS

NAMES = (None, *sorted({target.name for target in TARGETS}))


def expected(optimizer: Any, p: torch.Tensor) -> None:
    """Demand the state that a step on a tensor with memory leaves."""
    wanted = {"AdamP": {"step", "exp_avg", "exp_avg_sq"}, "SGDP": {"momentum"}}
    kind = type(optimizer).__name__.removeprefix("Fused")
    state = optimizer.state[p]
    assert set(state) == wanted[kind] | ({"view"} if p.dim() > 1 else set())
    for key, value in state.items():
        scalar = key in ("step", "view")
        assert value.shape == (() if scalar else p.shape)
        dtypes = {"step": torch.float32, "view": torch.int32}
        assert value.dtype == dtypes.get(key, p.dtype)
        assert value.device == (torch.device("cpu") if key == "step" else p.device)


@pytest.mark.parametrize("outside", [False, True], ids=["in the mode", "outside"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", NAMES)
def test_fake(kind: Kind, name: str | None, device: str, outside: bool) -> None:
    """Fake parameters get fake state whatever backend is asked for, and are not computed with."""
    cls = type(kind.make([Parameter(torch.ones(2))]))
    mode = FakeTensorMode()
    with mode:
        params = [
            Parameter(torch.empty(*shape, dtype=dtype, device=device))
            for shape in ((4, 3), (5,), (2, 3, 2, 2))
            for dtype in (torch.float32, torch.bfloat16)
        ]
        optimizer = cls(params, weight_decay=0.1, backend=name, lr=0.1)
        for p in params:
            p.grad = torch.empty_like(p)
        if not outside:
            optimizer.step()
            optimizer.step()
    if outside:
        optimizer.step()
        optimizer.step()
    for p in params:
        expected(optimizer, p)
        assert all(isinstance(value, FakeTensor) for value in optimizer.state[p].values())
        if device == "cuda":
            moments = [s for s in optimizer.state[p].values() if s.dim()]
            assert {value.fake_device.type for value in moments} == {"cuda"}
        assert p._version == 0


def test_fake_training(kind: Kind) -> None:
    """A whole training step of a fake model, with a learning rate in a fake tensor."""
    with FakeTensorMode():
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        optimizer = kind.make(net.parameters(), lr=torch.tensor(0.1))
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.empty(5, 3)).sum().backward()
            optimizer.step()
        for p in net.parameters():
            expected(optimizer, p)


def test_fake_and_capturable(kind: Kind) -> None:
    """A count on the device is a fake one there."""
    with FakeTensorMode():
        p = Parameter(torch.empty(3, 4, device="cuda"))
        p.grad = torch.empty_like(p)
        optimizer = kind.make([p], capturable=True)
        optimizer.step()
        optimizer.step()
    if kind.name == "AdamP":
        assert optimizer.state[p]["step"].device.type == "cuda"


@pytest.mark.filterwarnings("ignore:adamp_fused steps parameters on 'meta'")
@pytest.mark.parametrize("projection", ["auto", "channel", "layer", "off"])
def test_meta(kind: Kind, projection: str) -> None:
    """Parameters on meta get state there."""
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = kind.make(net.parameters(), projection=projection, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.empty(5, 3, device="meta")).sum().backward()
        optimizer.step()
    for p in net.parameters():
        if projection == "auto":
            expected(optimizer, p)
        assert all(s.device == p.device for k, s in optimizer.state[p].items() if k != "step")


@pytest.mark.skipif(not GPU, reason="compares with a step on a GPU")
def test_fake_as_on_a_gpu(kind: Kind) -> None:
    """The sum of the state's bytes is what the same training on a GPU has."""
    sizes = []
    for mode in (None, FakeTensorMode()):
        with mode or torch.no_grad():
            p = Parameter(torch.empty(64, 32, device="cuda"))
            p.grad = torch.empty_like(p)
            optimizer = kind.make([p])
            optimizer.step()
            sizes.append({k: (v.nbytes, v.device) for k, v in optimizer.state[p].items()})
    assert sizes[0] == sizes[1]
