"""The benchmark's parameter lists are the published models', and its commands run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adamp_fused import FusedAdamP
from bench import gradients, growth, workloads

ROOT = Path(__file__).parent.parent

SMALLEST = {
    "step": ["--workloads", "1000x16x16", "--rounds", "2"],
    "train": ["--epochs", "1", "--steps", "2"],
    "price": ["--workloads", "1000x16x16", "--rows", "adamp,official,memory", "--rounds", "1"],
    "growth": ["--most", "3e4", "--most-tensors", "3", "--rounds", "1"],
}


def test_workloads_have_the_published_sizes() -> None:
    """Every list's number of tensors and parameters is the model's."""
    workloads.check()


@pytest.mark.parametrize("command", SMALLEST)
def test_smallest_run(command: str, tmp_path: Path) -> None:
    """A run of a few steps writes its results."""
    sizes = [*SMALLEST[command], "--device", "cpu", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "bench", command, *sizes],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / f"cpu-{command}.json").exists()


OUTCOMES = {
    "projected": [1] * 6,
    "unprojected": [0] * 6,
    "alternating": [1, 0] * 3,
    "mixed": [2, 1, 0] * 2,
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_outcome_is_the_one_named(outcome: str) -> None:
    """The optimizer finds in a run's gradients what the run says that it measures."""
    workload = workloads.uniform(6, 32, 48)
    weights = gradients.make_weights(workload, torch.device("cpu"), torch.float32)
    optimizer = FusedAdamP(weights, backend="reference", lr=gradients.LEARNING_RATE)
    drawn = gradients.Gradients(workload, weights, outcome)
    for weight, grad in zip(weights, drawn.tensors, strict=True):
        weight.requires_grad_().grad = grad
    optimizer.step()
    assert [int(optimizer.state[weight]["view"]) for weight in weights] == OUTCOMES[outcome]


def test_growth_covers_its_range() -> None:
    """Either sweep grows in half decades, the one's tensors and the other's parameters fixed."""
    sizes = growth.sweeps(10**9, 10_000)
    tensors = [len(workload.weights) for workload in sizes["tensors"]]
    assert tensors == [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000]
    for workload in sizes["tensors"]:
        assert workload.numel == pytest.approx(growth.TOTAL, rel=0.03)
    wanted = [factor * 10**decade for decade in range(4, 9) for factor in (1, 3)] + [10**9]
    for workload, numel in zip(sizes["parameters"], wanted, strict=True):
        assert len(workload.weights) == growth.TENSORS
        assert workload.numel == pytest.approx(numel, rel=0.03)


def test_growth_takes_turns_as_long_as_memory_allows() -> None:
    """Two contenders need 10 copies of the parameters in turn, 4 one after the other."""
    family = growth.FAMILIES[0]
    members = growth.contenders(torch.device("cpu"))[0][:2]
    assert growth.batches(members, family, 100, capacity=4000) == [members]
    assert growth.batches(members, family, 100, capacity=3999) == [[m] for m in members]
    assert growth.batches(members, family, 100, capacity=1600) == [[m] for m in members]
    assert growth.batches(members, family, 100, capacity=1599) == []
