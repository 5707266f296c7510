"""The benchmark's parameter lists are the published models', and its commands run."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from adamp_fused import FusedAdamP
from bench import __main__, growth
from bench.lib import bytes as byte_model
from bench.lib import gradients, workloads
from bench.lib.implementations import FAMILIES, implementations
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
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
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
    members = implementations(torch.device("cpu"))[0][:2]
    assert growth.batches(members, family, 100, capacity=4000) == [members]
    assert growth.batches(members, family, 100, capacity=3999) == [[m] for m in members]
    assert growth.batches(members, family, 100, capacity=1600) == [[m] for m in members]
    assert growth.batches(members, family, 100, capacity=1599) == []


def test_names_are_moved_apart_and_no_further() -> None:
    """Places keep their order and a least distance, stay within bounds, and move in pairs."""
    assert growth_plot.apart([1.0, 4.0, 9.0], 2, 0, 10) == [1, 4, 9]
    assert growth_plot.apart([1.0, 5.0, 5.0, 9.0], 2, 0, 10) == [1, 4, 6, 9]
    assert growth_plot.apart([5.0, 5.0, 5.0], 2, 0, 10) == [3, 5, 7]
    assert growth_plot.apart([0.0, 0.5, 10.0, 10.0], 2, 0, 10) == [0, 2, 8, 10]


@pytest.mark.parametrize("ends", ["measured", "together", "low", "early"])
def test_growth_names_cross_nothing(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name of a curve lies right of all curves and above or below all other names."""
    text = pytest.importorskip("matplotlib.text", reason="there is no plot without matplotlib")
    report = files.read(files.COMMITTED / "cpu-growth.json")
    assert report is not None
    for point in report["points"]:
        if ends != "measured":
            point["ns_per_parameter"] = 1 / point["numel"] if ends == "low" else 5.0
    if ends == "early":
        report["points"] = [
            p for p in report["points"] if p["sweep"] == "tensors" or p["ours"] or p["numel"] < 1e5
        ]
    figures: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    growth_plot.draw(report, Path("growth.png"))
    figures[0].canvas.draw()
    for axes in figures[0].axes:
        # Without the lines that lead there.
        boxes = [text.Text.get_window_extent(name) for name in axes.texts]
        boxes.sort(key=lambda box: box.y0)
        assert len(boxes) == 8
        assert all(box.x0 > axes.bbox.x1 for box in boxes)
        assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))
        assert all(axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1 for box in boxes)
