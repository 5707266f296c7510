"""What the README says in code is so."""

import re
from pathlib import Path

import torch
from torch.nn import Parameter
from torch.nn.functional import cosine_similarity

from adamp_fused import FusedAdamP
from parity.gradients import SCRIPT, generator, scripted

README = Path(__file__).resolve().parents[2] / "README.md"


def block_after(heading: str) -> str:
    """The first block of Python under a heading."""
    section = README.read_text(encoding="utf-8").split(f"## {heading}\n")[1]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


def test_equivalent_to() -> None:
    """The step in ten lines of plain torch, through every outcome."""
    code = compile(block_after("Equivalent to"), str(README), "exec")
    rng = generator(5)
    p = Parameter(torch.randn(6, 11, generator=rng, dtype=torch.float64))
    options = {"lr": 1e-2, "weight_decay": 0.1, "eps": 1e-8, "delta": 0.1, "wd_ratio": 0.1}
    optimizer = FusedAdamP([p], betas=(0.9, 0.999), **options)
    twin = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
    twin |= options | {"p": p.detach().clone(), "beta1": 0.9, "beta2": 0.999}
    outcomes = set()
    for step, outcome in enumerate(SCRIPT[:9], start=1):
        grad = scripted(twin["p"], outcome, rng)
        p.grad = grad.clone()
        optimizer.step()
        exec(code, {**twin, "grad": grad, "step": step, "cosine_similarity": cosine_similarity})
        outcomes.add(int(optimizer.state[p]["view"]))
        assert torch.allclose(p, twin["p"], rtol=1e-12, atol=1e-14)
    assert outcomes == {0, 1, 2}
