"""The benchmark's parameter lists are the published models', and its commands run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from adamp_fused import FusedAdamP
from bench import __main__, growth
from bench.lib import bytes as byte_model
from bench.lib import gradients, workloads
from bench.lib.implementations import FAMILIES, baseline_of, control_of
from bench.lib.report import files, growth_plot, plots, tables

ROOT = Path(__file__).resolve().parents[2]

SMALLEST = {
    "step": ["--workloads", "1000x16x16", "--rounds", "2"],
    "train": ["--epochs", "1", "--steps", "2"],
    "targets": ["--workloads", "1000x16x16", "--groups", "adamp,official,memory", "--rounds", "1"],
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


@pytest.mark.parametrize("arguments", [[], ["--limit", "1"]])
def test_step_and_train_are_the_default(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a subcommand both are run, with the options of both."""
    run: list[str] = []
    monkeypatch.setattr(__main__, "implementations", lambda *_: ([], []))
    monkeypatch.setattr(__main__.step, "run", lambda *_: run.append("step"))
    monkeypatch.setattr(__main__.train, "run", lambda *_: run.append("train"))
    monkeypatch.setenv("OUT", str(tmp_path))
    assert __main__.main(arguments) == 0
    assert run == ["step", "train"]


def test_bytes_of_one_pass_and_two() -> None:
    """p, g and the states are read, p and the states written; a second pass needs no gradient."""
    one, two, missed = byte_model.one_pass, byte_model.layer_wise, byte_model.mispredicted
    assert [4 * one(family.states).total for family in FAMILIES] == [28, 20]
    assert [4 * two(family.states).total for family in FAMILIES] == [40, 32]
    assert [4 * missed(family.states).total for family in FAMILIES] == [44, 36]
    assert byte_model.step_bytes(10, 2, torch.bfloat16) == 140


def test_tables_are_up_to_date() -> None:
    """docs/performance.md is what its results say, and a table that nobody knows is refused."""
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.rewrite(page, files.COMMITTED) == page
    with pytest.raises(ValueError, match="no table is called 'gpu-price'"):
        tables.rewrite("<!-- begin:gpu-price -->\n<!-- end:gpu-price -->", files.COMMITTED)


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


def test_growth_alternates_as_long_as_memory_allows() -> None:
    """Two implementations need 10 copies of the parameters, one after the other 4."""
    family = FAMILIES[0]
    members = [baseline_of(family), control_of(baseline_of(family))]
    assert growth.batches(members, family, 100, capacity=4000) == [members]
    assert growth.batches(members, family, 100, capacity=3999) == [[m] for m in members]
    assert growth.batches(members, family, 100, capacity=1600) == [[m] for m in members]
    assert growth.batches(members, family, 100, capacity=1599) == []


def test_growth_names_every_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The legend has a name for each implementation and each bound, beside the panels."""
    pytest.importorskip("matplotlib", reason="there is no plot without matplotlib")
    report = files.read(files.COMMITTED / "cpu-growth.json")
    assert report is not None
    figures: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    growth_plot.draw(report, Path("growth.png"))
    figures[0].canvas.draw()
    legend = figures[0].axes[-1].get_legend()
    names = {text.get_text() for text in legend.get_texts()}
    labels = {point["label"] for point in report["points"]}
    assert names == labels | {"28 bytes at the bandwidth", "20 bytes at the bandwidth"}
    box = legend.get_window_extent()
    assert all(box.x0 > axes.bbox.x1 for axes in figures[0].axes)
