"""max_grad_norm: the result of clip_grad_norm_ before the step, and gradients as they were."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_

from conftest import Kind
from parity.gradients import generator
from parity.targets import Target

SHAPES = ((40, 401), (7, 13), (33,), (700, 3), (), (0, 5), (6, 5, 3, 3), (2, 8193))
SMALL = ((40, 21), (7, 13), (33,), (70, 3), ())


def parameters(backend: Target, dtype: torch.dtype) -> list[Parameter]:
    """Weights of many shapes."""
    rng = generator(3)
    shapes = SMALL if backend.slow else SHAPES
    return [
        Parameter(torch.randn(shape, generator=rng, dtype=torch.float64).to(backend.device, dtype))
        for shape in shapes
    ]


def groups(params: list[Parameter]) -> list[dict[str, Any]]:
    """Two groups; the norm is one."""
    return [{"params": params[::2]}, {"params": params[1::2], "lr": 3e-3, "maximize": True}]


def give(params: list[Parameter], step: int, size: float) -> None:
    """Gradients of a size; some parameters have none."""
    rng = generator(step)
    for i, p in enumerate(params):
        grad = size * torch.randn(p.shape, generator=rng, dtype=torch.float64)
        p.grad = None if (i + step) % 5 == 4 else grad.to(p.device, p.dtype)


def close(got: list[Tensor], want: list[Tensor], rtol: float) -> None:
    """Demand values as near as the rounding of gradients allows."""
    for one, other in zip(got, want, strict=True):
        assert one.dtype == other.dtype
        one, other = one.detach().double(), other.detach().double()
        assert torch.allclose(one, other, rtol=rtol, atol=rtol, equal_nan=True)


PRECISION = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
@pytest.mark.parametrize("max_norm", [0.7, 1e6, 0.0])
def test_as_clip_grad_norm(
    backend: Target, kind: Kind, dtype: torch.dtype, max_norm: float
) -> None:
    """Weights, state and the norm; where it is above the limit, below, and the limit is 0."""
    if backend.slow and dtype in (torch.bfloat16, torch.float16):
        pytest.skip("Triton's interpreter truncates to 16 bits")
    options: dict[str, Any] = {"weight_decay": 0.05, "eps": 1e-3}
    if dtype.itemsize == 2:
        max_norm *= 100  # clip_grad_norm_ rounds what it leaves to 16 bits: no subnormal numbers
    params = parameters(backend, dtype)
    twins = copy.deepcopy(params)
    optimizer = kind.make(groups(params), backend, max_grad_norm=max_norm, **options)
    other = kind.make(groups(twins), backend, **options)
    for step in range(4):
        give(params, step, 0.01 * 4**step)
        for p, twin in zip(params, twins, strict=True):
            twin.grad = None if p.grad is None else p.grad.clone()
        want = clip_grad_norm_(twins, max_norm)
        before = [None if p.grad is None else p.grad.clone() for p in params]
        optimizer.step()
        other.step()
        for p, grad in zip(params, before, strict=True):
            assert (p.grad is None) == (grad is None)
            assert grad is None or torch.equal(p.grad, grad)
        norm = optimizer.grad_norm
        assert norm.shape == () and norm.device.type == backend.device
        assert norm.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert norm.item() == pytest.approx(want.item(), rel=max(PRECISION[dtype], 1e-12))
        close(params, twins, PRECISION[dtype])
        for p, twin in zip(params, twins, strict=True):
            mine, its = optimizer.state[p], other.state[twin]
            assert mine.keys() == its.keys()
            for key in mine:
                assert key != "view" or torch.equal(mine[key], its[key])
            moments = [key for key in mine if key not in ("view", "step")]
            close([mine[k] for k in moments], [its[k] for k in moments], 4 * PRECISION[dtype])


@pytest.mark.parametrize("bad", [float("inf"), float("nan"), -float("inf")])
def test_not_finite(backend: Target, kind: Kind, bad: float) -> None:
    """An infinite norm makes gradients 0, and the infinite ones NaN; a NaN makes all NaN."""
    params = parameters(backend, torch.float32)
    twins = copy.deepcopy(params)
    optimizer = kind.make(params, backend, max_grad_norm=1.0)
    other = kind.make(twins, backend)
    for p, twin in zip(params, twins, strict=True):
        p.grad = torch.ones_like(p)
        twin.grad = torch.ones_like(p)
    for mine in (params, twins):
        mine[1].grad[0, 0] = bad
    want = clip_grad_norm_(twins, 1.0)
    optimizer.step()
    other.step()
    assert torch.equal(optimizer.grad_norm.isnan(), want.isnan())
    assert optimizer.grad_norm.item() == want.item() or want.isnan()
    close(params, twins, 1e-5)


@pytest.mark.parametrize("found", [0.0, 1.0])
def test_with_scale(backend: Target, kind: Kind, found: float) -> None:
    """The norm is that of unscaled gradients; a skipped step leaves it as it was."""
    params = parameters(backend, torch.float32)
    twins = copy.deepcopy(params)
    optimizer = kind.make(params, backend, max_grad_norm=0.5, grad_scaling=True)
    other = kind.make(twins, backend)
    for step in range(3):
        give(params, step, 1.0)
        skips = step == 1 and found != 0
        norm_before = optimizer.grad_norm if step == 0 else optimizer.grad_norm.clone()
        for p, twin in zip(params, twins, strict=True):
            twin.grad = None if p.grad is None or skips else p.grad.clone()
            if p.grad is not None:
                p.grad.mul_(256)
        optimizer.grad_scale = torch.tensor(256.0, device=backend.device)
        optimizer.found_inf = torch.tensor(found if skips else 0.0, device=backend.device)
        optimizer.step()
        if skips:
            assert torch.equal(optimizer.grad_norm, norm_before)
            continue
        want = clip_grad_norm_(twins, 0.5)
        other.step()
        assert optimizer.grad_norm.item() == pytest.approx(want.item(), rel=1e-5)
        close(params, twins, 1e-5)


def test_large_gradients(backend: Target, kind: Kind) -> None:
    """Half gradients whose norm no half can hold are clipped to what it should be."""
    if backend.slow:
        pytest.skip("Triton's interpreter truncates to 16 bits")
    p = Parameter(torch.zeros(64, 64, dtype=torch.float16, device=backend.device))
    optimizer = kind.make([p], backend, max_grad_norm=1.0, projection="off")
    p.grad = torch.full_like(p, 3e4)
    optimizer.step()
    assert optimizer.grad_norm.item() == pytest.approx(64 * 3e4, rel=1e-3)
    assert p.isfinite().all() and p.any()


def test_no_gradient_at_all(backend: Target, kind: Kind) -> None:
    """A norm of nothing is 0."""
    params = parameters(backend, torch.float32)
    optimizer = kind.make(params, backend, max_grad_norm=1.0)
    assert optimizer.grad_norm is None
    give(params, 0, 1.0)
    optimizer.step()
    assert optimizer.grad_norm.item() > 1
    for p in params:
        p.grad = None
    before = [p.detach().clone() for p in params]
    optimizer.step()
    assert optimizer.grad_norm.item() == 0
    assert all(map(torch.equal, params, before))


def test_other_layouts(backend: Target, kind: Kind) -> None:
    """Parameters that a kernel works on copies of take part in the norm."""
    results = []
    for transposed in (False, True):
        params = parameters(backend, torch.float32)[:2]
        if transposed:
            params = [Parameter(p.detach().t().contiguous().t()) for p in params]
        optimizer = kind.make(params, backend, max_grad_norm=0.3)
        for step in range(3):
            give(params, step, 1.0)
            optimizer.step()
        results.append([*(p.detach() for p in params), optimizer.grad_norm])
    close(*results, 1e-5)


def test_kept_through_pickle(backend: Target, kind: Kind) -> None:
    """The limit is the optimizer's, and survives a round trip."""
    params = parameters(backend, torch.float32)
    give(params, 0, 1.0)
    optimizer = kind.make(params, backend, max_grad_norm=0.3)
    other = pickle.loads(pickle.dumps(optimizer))
    twins = [p for group in other.param_groups for p in group["params"]]
    for p, twin in zip(params, twins, strict=True):
        twin.grad = None if p.grad is None else p.grad.clone()
    optimizer.step()
    other.step()
    assert all(map(torch.equal, params, twins))


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), "1"])
def test_unusable(kind: Kind, wrong: Any) -> None:
    """A limit that is none is refused by name."""
    with pytest.raises((ValueError, TypeError), match="max_grad_norm="):
        kind.make([Parameter(torch.ones(3))], max_grad_norm=wrong)
