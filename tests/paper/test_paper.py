"""How ``python -m bench paper`` judges, writes and draws."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import __main__
from bench.lib.report import files
from bench.paper import command, digits, language, lemmas, page, pictures, report
from bench.paper.experiment import (
    Experiment,
    Gate,
    Settings,
    deviations_apart,
    mean_and_deviation,
)
from bench.paper.registry import EXPERIMENTS
from bench.paper.watch import EffectiveSteps, norm


@pytest.mark.parametrize(
    ("value", "relation", "passed"),
    [
        *((1.0, "<=", True), (1.0, "<", False), (1.0, ">=", True), (1.0, ">", False)),
        *((0.9, "<", True), (1.1, ">", True), (1.1, "<=", False), (0.9, ">=", False)),
        *((math.nan, "<=", False), (math.nan, ">", False), (math.inf, ">", False)),
    ],
)
def test_gate(value: float, relation: str, passed: bool) -> None:
    """A pass mark of 1, and what is no number never passes."""
    assert Gate("", value, relation, 1.0).passed == passed


def test_gate_of_an_unknown_relation() -> None:
    """A relation is one of four."""
    with pytest.raises(ValueError, match="'=' is none of"):
        assert Gate("", 1.0, "=", 1.0).passed


def test_deviations_apart() -> None:
    """Differences are counted in pooled standard deviations."""
    assert deviations_apart([3.0, 5.0], [1.0, 3.0]) == pytest.approx(2 / statistics.stdev([1, 3]))
    assert deviations_apart([1.0, 1.0], [1.0, 1.0]) == 0
    assert deviations_apart([1.0, 1.0], [2.0, 2.0]) == -math.inf
    assert mean_and_deviation([0.5, 0.7], 1, 100) == "60.0 ± 14.1"


def test_effective_step_is_the_angle() -> None:
    """A weight that doubles has not moved; one that turns by 60 degrees moved by 1."""
    w = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    steps = EffectiveSteps([w])
    steps.before(0)
    w.copy_(torch.tensor([[2.0, 0.0], [math.sqrt(3), 1.0]]))
    steps.after()
    steps.before(1)  # not measured
    w.zero_()
    steps.after()
    assert steps.mean == pytest.approx(0.5)
    assert norm([torch.tensor([3.0]), torch.tensor([4.0])]) == pytest.approx(5.0)


def test_batches_are_epochs() -> None:
    """No image twice in an epoch, and the same order for the same seed."""
    drawn = list(digits.batches(20, 7, seed=1, batch=5))
    for epoch in (drawn[:4], drawn[4:]):
        together = torch.cat(epoch)
        assert len(together.unique()) == len(together)
    again = list(digits.batches(20, 7, seed=1, batch=5))
    assert all(map(torch.equal, drawn, again))
    assert not torch.equal(drawn[0], next(digits.batches(20, 1, seed=2, batch=5)))


def test_weight_normalised_directions_are_projected() -> None:
    """Of a normalised layer the direction is watched, and found channel-wise."""
    record = language.train("adamp", True, 0, 2, "cpu")
    assert record["projected_share"] == 1.0


def one_lemma(settings: Settings) -> list[Any]:
    """A fast experiment."""
    return lemmas.cases(settings)[:1]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """The lemmas, but for all cases save one."""
    monkeypatch.setattr(pictures, "DRAWN", {})
    original = EXPERIMENTS["lemmas"]
    options = {name: getattr(original, name) for name in original.__dataclass_fields__}
    short = Experiment(**(options | {"cases": one_lemma}))
    monkeypatch.setitem(EXPERIMENTS, "lemmas", short)
    return short


def test_command_writes_and_merges(fast: Experiment, tmp_path: Path) -> None:
    """JSON and page; an experiment that is run again takes its own place alone."""
    arguments = ["paper", "--workers", "1", "--out", str(tmp_path), "--only"]
    assert __main__.main([*arguments, "figure1"]) == 0
    assert __main__.main([*arguments, "lemmas"]) == 0
    content = json.loads((tmp_path / "paper.json").read_text())
    assert [entry["name"] for entry in content["experiments"]] == ["lemmas", "figure1"]
    text = (tmp_path / "paper.md").read_text()
    assert "## The lemmas" in text and "**FAIL**" not in text
    # Another form shares nothing with it.
    assert __main__.main([*arguments, "lemmas", "--quick"]) == 0
    content = json.loads((tmp_path / "paper.json").read_text())
    assert [entry["name"] for entry in content["experiments"]] == ["lemmas"]
    assert content["settings"] == {"quick": True, "backend": "cpu"}


def test_command_fails_with_a_gate(
    fast: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The exit status is 1, and the page says which gate."""
    monkeypatch.setattr(lemmas, "EXACT", -1.0)
    arguments = ["paper", "--workers", "1", "--out", str(tmp_path), "--only", "lemmas"]
    assert __main__.main(arguments) == 1
    assert "**FAIL**" in (tmp_path / "paper.md").read_text()
    # The same records, judged again.
    monkeypatch.undo()
    command.draw(tmp_path)
    assert "**FAIL**" not in (tmp_path / "paper.md").read_text()


def test_processes_measure_the_same() -> None:
    """What another process measures is what this one does."""
    experiment = EXPERIMENTS["lemmas"]
    options = {name: getattr(experiment, name) for name in experiment.__dataclass_fields__}
    short = Experiment(**(options | {"cases": one_lemma}))
    (one,), (two,) = (
        [found for _, found, _ in command.records([short], Settings(), workers)]
        for workers in (1, 2)
    )
    assert one == two


def test_page_is_up_to_date() -> None:
    """docs/paper.md is what paper.json says, its gates are those of its records."""
    content = report.read(files.COMMITTED)
    assert content is not None
    assert page.text(content) == (page.DOCS / page.FILE).read_text(encoding="utf-8")
    judged = json.loads(json.dumps(content))
    report.judge(judged)
    assert judged == content


def test_pictures_are_there() -> None:
    """Every picture of the page is in docs/images, and every one of paper.json is drawn."""
    for experiment in EXPERIMENTS.values():
        assert (experiment.picture is not None) == (experiment.name in pictures.DRAWN)
        if experiment.picture is not None:
            file, _ = experiment.picture
            assert file == f"paper-{experiment.name}.png"
            assert (page.DOCS / "images" / file).exists()


def test_anchors() -> None:
    """Links of the summary are the headings' anchors."""
    assert page._anchor("The layer view, and retrieval") == "the-layer-view-and-retrieval"
    assert page._anchor("Figure 3: Rosenbrock's") == "figure-3-rosenbrocks"
