"""One plan serves every stream of a GPU."""

import pytest
import torch
from torch.nn import Parameter

from adamp_fused.backends.registry import BACKENDS
from conftest import Kind
from parity.targets import GPU, TARGETS, Target

pytestmark = pytest.mark.skipif(not GPU, reason="only a GPU has streams")
ON_GPU = [target for target in TARGETS if target.name in ("cuda", "triton")]


@pytest.mark.parametrize("target", ON_GPU, ids=lambda target: target.label)
def test_a_plan_moves_between_streams(
    target: Target, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps on three streams by turns, with nothing waiting in between but the steps themselves."""
    backend = BACKENDS[target.name]
    plan, plans = backend.plan, []
    monkeypatch.setattr(backend, "plan", lambda *args: plans.append(plan(*args)) or plans[-1])
    torch.manual_seed(0)
    weights = [torch.randn(shape, device="cuda") for shape in ((2048, 3000), (64, 32), (100,))]
    grads = [torch.randn_like(w) for w in weights]
    results = []
    for streams in ([torch.cuda.current_stream()], [torch.cuda.Stream() for _ in range(3)]):
        params = [Parameter(w.clone()) for w in weights]
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        optimizer = kind.make(params, target)
        plans.clear()
        torch.cuda.synchronize()
        for number in range(12):
            with torch.cuda.stream(streams[number % len(streams)]):
                optimizer.step()
        torch.cuda.synchronize()
        assert len(plans) == 1
        results.append([*params, *(v for p in params for v in optimizer.state[p].values())])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
