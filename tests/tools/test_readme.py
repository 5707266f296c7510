"""What the README says in code is so."""

import re
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint import state_dict as dcp_state
from torch.nn import Parameter
from torch.nn.functional import cosine_similarity

from adamp_fused import FusedAdamP
from parity.gradients import SCRIPT, generator, scripted

README = Path(__file__).resolve().parents[2] / "README.md"
TRAINING = README.parent / "docs" / "training.md"


def block_after(heading: str, page: Path = README) -> str:
    """The first block of Python under a heading."""
    section = page.read_text(encoding="utf-8").split(f"## {heading}\n")[1]
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


@pytest.mark.parametrize("heading", ["GradScaler", "Clipping", "torch.compile"])
def test_around_the_step(heading: str) -> None:
    """The examples run as they stand, on a CPU where they name a GPU."""
    model = nn.Linear(4, 3)
    loss = model(torch.ones(2, 4)).sum()
    given = {"torch": torch, "FusedAdamP": FusedAdamP, "model": model, "loss": loss}
    if heading == "torch.compile":
        loss.backward()
        given["optimizer"] = FusedAdamP(model.parameters())
    exec(block_after(heading, TRAINING).replace('"cuda"', '"cpu"'), given)
    optimizer = given["optimizer"]
    if heading == "torch.compile":
        given["step"]()
    elif heading == "Clipping":
        loss.backward()
        optimizer.step()
    assert optimizer.state[model.weight]["step"].item() == 1


def test_graph_is_python() -> None:
    """The example that needs a GPU is at least Python."""
    compile(block_after("CUDA graphs", TRAINING), str(TRAINING), "exec")


def test_checkpoints_example(tmp_path: Path) -> None:
    """A run goes on where the saved one was."""
    options = dcp_state.StateDictOptions(flatten_optimizer_state_dict=True)
    model = nn.Linear(3, 2)
    optimizer = FusedAdamP(model.parameters(), lr=1e-3)
    optimizer.init_state()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    saved = {"optimizer": dcp_state.get_optimizer_state_dict(model, optimizer, options=options)}
    dcp.save(saved, checkpoint_id=tmp_path, no_dist=True)
    given = vars(dcp_state) | {"FusedAdamP": FusedAdamP, "dcp": dcp}
    given |= {"model": nn.Linear(3, 2), "options": options, "path": tmp_path}
    exec(block_after("Checkpoints", TRAINING), given)
    theirs = given["optimizer"].state[given["model"].weight]
    mine = optimizer.state[model.weight]
    assert all(torch.equal(theirs[key], mine[key]) for key in mine)
