"""Moments of 16 bits are rounded to nearest, ties to even, for every value that there is."""

import pytest
import torch

from conftest import KINDS
from parity.targets import Target


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_every_value(backend: Target, dtype: torch.dtype) -> None:
    """The mean of two values is exact in float32, and every second one is a tie."""
    if backend.name == "triton" and backend.slow:
        pytest.skip("Triton's interpreter truncates to bfloat16, whatever rounding is asked for")
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    # Beside itself, its neighbours, and whatever stands 12,345 places on; not a whole vector.
    pairs = [(every, every.roll(by)) for by in (0, 1, 2, 3, 12_345)] + [(every[:13], every[-13:])]
    moment, grad = (torch.cat(values) for values in zip(*pairs, strict=True))
    param = torch.nn.Parameter(torch.zeros_like(moment, device=backend.device))
    param.grad = torch.zeros_like(param)
    optimizer = KINDS[0].make([param], backend, lr=0.0, betas=(0.5, 0.999), projection="off")
    optimizer.step()
    got = optimizer.state[param]["exp_avg"]
    got.copy_(moment)
    param.grad.copy_(grad)
    optimizer.step()
    want = (0.5 * moment.float() + 0.5 * grad.float()).to(dtype)
    torch.testing.assert_close(got.cpu(), want, rtol=0, atol=0, equal_nan=True)
