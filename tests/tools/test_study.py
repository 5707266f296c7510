"""The study: what QK-norm makes scale-invariant, the grid, and the page against its numbers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from adamp_fused import FusedAdamP
from bench.lib.report import files
from bench.study import command, grid, model, page, pictures, summary
from bench.study.data import Text
from bench.study.training import (
    ADAMP,
    ADAMW,
    HEAD_WISE,
    Arm,
    Setting,
    Training,
    learning_rate,
    make_model,
    make_optimizer,
    train,
)

VOCABULARY = 11
REPORT = files.read(files.COMMITTED / command.FILE)
TEXT = torch.randint(VOCABULARY, (3, model.CONTEXT), generator=torch.Generator().manual_seed(1))


def small(qk_norm: bool, heads_as_rows: bool = False) -> model.GPT:
    """A model in float64 after a backward pass."""
    torch.manual_seed(3)
    gpt = model.GPT(VOCABULARY, qk_norm, heads_as_rows).double()
    F.cross_entropy(gpt(TEXT).flatten(0, 1), TEXT.roll(-1, 1).flatten()).backward()
    return gpt


def cosines(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """|cos| of a weight and its gradient, row by row."""
    assert weight.grad is not None
    return F.cosine_similarity(weight.view(rows, -1), weight.grad.view(rows, -1), eps=0).abs()


@pytest.mark.parametrize("name", ["q", "k"])
def test_heads_are_scale_invariant_with_qk_norm(name: str) -> None:
    """A head's part of W_Q or W_K may be scaled; one row of it may not, nor without QK-norm."""

    def changes(gpt: model.GPT, rows: slice) -> bool:
        before = gpt(TEXT)
        with torch.no_grad():
            getattr(gpt.blocks[0], name)[rows] *= 3
        return not torch.allclose(gpt(TEXT), before, rtol=0, atol=1e-9)

    head = slice(0, model.WIDTH // model.HEADS)
    assert not changes(small(qk_norm=True), head)
    assert changes(small(qk_norm=True), slice(0, 1))
    assert changes(small(qk_norm=False), head)


def test_gradients_are_orthogonal_by_head_not_by_row() -> None:
    """Of W_Q and W_K with QK-norm, each head and so the whole; of no row, and no other weight."""
    for block in small(qk_norm=True).blocks:
        for weight in (block.q, block.k):
            assert cosines(weight, model.HEADS).max() < 1e-12
            assert cosines(weight, 1).max() < 1e-12
            assert cosines(weight, model.WIDTH).max() > 0.1 / math.sqrt(model.WIDTH)
        for weight in (block.v, block.out, block.widen, block.narrow):
            assert cosines(weight, 1).max() > 1e-6
    for block in small(qk_norm=False).blocks:
        assert cosines(block.q, model.HEADS).min() > 1e-6


@pytest.mark.parametrize(("heads_as_rows", "outcome"), [(False, 2), (True, 1)])
def test_outcome_of_invariant_weights(heads_as_rows: bool, outcome: int) -> None:
    """AdamP finds them layer-wise as matrices, channel-wise where dimension 0 is the head."""
    gpt = small(True, heads_as_rows)
    optimizer = FusedAdamP(gpt.parameters())
    optimizer.step()
    for block in gpt.blocks:
        assert [int(optimizer.state[w]["view"]) for w in (block.q, block.k)] == [outcome] * 2


def test_heads_as_rows_are_the_same_model() -> None:
    """The shape of W_Q and W_K changes neither the drawn weights nor the function."""
    assert torch.equal(small(True)(TEXT), small(True, heads_as_rows=True)(TEXT))


def test_seed_alone_draws_the_weights() -> None:
    """All arms begin with the same matrices."""
    drawn = [make_model(Arm(*arm), VOCABULARY, 5) for arm in ((ADAMW, True), (HEAD_WISE, True))]
    drawn.append(make_model(Arm(ADAMP, False), VOCABULARY, 5))
    for weight in ("tokens", "head"):
        assert len({getattr(gpt, weight).sum().item() for gpt in drawn}) == 1
    assert len({gpt.blocks[1].q.sum().item() for gpt in drawn}) == 1


@pytest.mark.parametrize("name", [ADAMW, ADAMP, HEAD_WISE])
def test_optimizers(name: str) -> None:
    """Every parameter is in one group, gains undecayed; head-wise projects Q and K alone."""
    gpt = make_model(Arm(name, True), VOCABULARY, 0)
    optimizer = make_optimizer(gpt, Setting(Arm(name, True), 1e-3, 0.5, 0, 1, 1))
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(map(id, held))) == len(list(gpt.parameters()))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.5 if parameter.dim() > 1 else 0)
            if name == HEAD_WISE:
                wanted = "channel" if parameter.dim() == 3 else "off"
                assert group["projection"] == wanted


def test_learning_rate_rises_and_falls() -> None:
    """Up over a twentieth of the steps, down to a tenth."""
    setting = Setting(Arm(ADAMW, True), 2.0, 0.0, 0, 100, 1)
    rates = [learning_rate(setting, step) for step in range(100)]
    assert rates[4] == max(rates) == 2.0
    assert rates[0] == pytest.approx(0.4)
    assert rates[-1] == pytest.approx(0.2, rel=0.01)


class Tiny:
    """A text of a few characters in :class:`Text`'s place."""

    vocabulary = VOCABULARY

    def batches(self, steps: int, seed: int) -> torch.Tensor:
        """Numbers that are added to the text."""
        return torch.arange(seed, seed + steps)

    def loss(self, gpt: model.GPT, shift: torch.Tensor) -> torch.Tensor:
        """Cross entropy of the shifted text."""
        text = (TEXT + shift) % VOCABULARY
        return F.cross_entropy(gpt(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())

    @torch.no_grad()
    def validation_loss(self, gpt: model.GPT) -> float:
        """That of the text itself."""
        return float(self.loss(gpt, torch.tensor(0)))


@pytest.mark.parametrize("name", [ADAMW, ADAMP, HEAD_WISE])
def test_training_records_every_step(name: str) -> None:
    """Losses and norms at each evaluation, the outcome of each tested weight; the same twice."""
    setting = Setting(Arm(name, True), 1e-2, 0.1, 2, 7, 3)
    result, again = (train(setting, Tiny()) for _ in range(2))
    assert result.evaluated_at == [0, 2, 4, 6, 7]
    assert result.validation_loss == result.validation[-1] < result.validation[0]
    assert len(result.training_loss) == 4
    kinds = set(model.LAYER_TYPES.values())
    assert set(result.norms) == kinds
    assert all(len(norms) == 5 for norms in result.norms.values())
    assert result.norms["norm gains"][0] == pytest.approx((5 * model.WIDTH) ** 0.5, abs=1e-5)
    if name == ADAMP:
        assert set(result.outcomes) == {kind for kind in kinds if "gains" not in kind}
        assert sum(map(sum, result.outcomes["attention Q"])) == 7 * model.LAYERS
        assert sum(segment[2] for segment in result.outcomes["attention Q"]) == 7 * model.LAYERS
    else:
        assert result.outcomes == {}
    again.seconds = result.seconds
    assert again == result


LOSSES = {(lr, decay): abs(lr - 2) + abs(decay - 0.1) for lr in (1, 2, 4) for decay in (0, 0.1, 1)}


def test_best_is_the_lowest_loss() -> None:
    """A training that diverged is never the best."""
    assert grid.best(LOSSES) == (2, 0.1)
    assert grid.best({(1, 0): None, (2, 0): 3.0, (4, 0): 2.5, (8, 0): None}) == (4, 0)
    with pytest.raises(ValueError, match="every training of the grid diverged"):
        grid.best({(1, 0): None})


def test_grid_grows_beyond_the_edge_of_its_best() -> None:
    """By a column of learning rates or a row of weight decays; the last row is no decay."""
    assert grid.edges(LOSSES) == grid.extension(LOSSES) == []
    assert grid.extension(LOSSES | {(4, 0.1): -1.0}) == [(8, 0), (8, 0.1), (8, 1)]
    assert grid.extension(LOSSES | {(1, 0.1): -1.0}) == [(0.5, 0), (0.5, 0.1), (0.5, 1)]
    assert grid.extension(LOSSES | {(2, 1): -1.0}) == [(1, 10), (2, 10), (4, 10)]
    assert grid.edges(LOSSES | {(2, 0): -1.0}) == []
    decayed = {point: loss for point, loss in LOSSES.items() if point[1] > 0}
    assert grid.extension(decayed) == [(1, 0), (2, 0), (4, 0)]


def invented(setting: Setting) -> Training:
    """A training without one: AdamP with QK-norm likes low learning rates, the others high ones."""
    low = setting.arm == Arm(ADAMP, True)
    loss = (setting.lr if low else 1 / setting.lr) + setting.seed
    gpt = make_model(setting.arm, VOCABULARY, 0)
    types = {model.layer_type(name): p.dim() for name, p in gpt.named_parameters()}
    outcomes = {kind: [[2, 1, 3]] for kind, dim in types.items() if dim > 1}
    norms = {kind: [1.0, 2.0] for kind in types}
    tested = outcomes if setting.arm.optimizer == ADAMP else {}
    return Training(setting, loss, [0, 1], [9.0, loss], [5.0], norms, tested, 1.0)


def test_interrupted_study_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second run trains what the first one has not, and a third nothing; the page can be made."""
    monkeypatch.setattr(command, "Text", lambda: Text)
    settings = {"data": "invented", "plan": "one"}
    monkeypatch.setattr(command, "settings_of", lambda plan, text: settings)
    calls: list[Setting] = []

    def training(limit: int) -> Callable[[Setting, Any], Training]:
        def train(setting: Setting, _: Any) -> Training:
            if len(calls) == limit:
                raise KeyboardInterrupt
            calls.append(setting)
            return invented(setting)

        return train

    plan = command.Plan(lrs=(1.0, 2.0), weight_decays=(0.0,), extensions=1, seeds=(1, 2))
    monkeypatch.setattr(command, "train", training(limit=9))
    with pytest.raises(KeyboardInterrupt):
        command.Study(plan, tmp_path).run()
    monkeypatch.setattr(command, "train", training(limit=1000))
    report = command.Study(plan, tmp_path).run()
    # Four arms of 2 points and the third beyond the edge, then five arms of two seeds, and AdamW
    # at AdamP's values.
    assert len(calls) == len(set(calls)) == 4 * 3 + 5 * 2 + 2
    tuned = [(s.arm, s.lr) for s in calls if s.seed > 0]
    assert {lr for arm, lr in tuned if arm == Arm(ADAMP, True)} == {0.5}
    assert {lr for arm, lr in tuned if arm == Arm(ADAMP, False)} == {4.0}
    assert {lr for arm, lr in tuned if arm == Arm(ADAMW, True)} == {0.5, 4.0}
    assert [e["setting"]["lr"] for e in report["controls"]] == [0.5, 0.5]
    assert command.Study(plan, tmp_path).run() == report
    assert len(calls) == 24
    here = command.Study(plan, tmp_path).report.machine
    for machine, changed, left in (
        (here, settings | {"plan": "another"}, 24),
        (here, settings | {"data": "another"}, 0),
        (here | {"torch": "another"}, settings, 0),
    ):
        fresh = command.Report(machine, changed)
        assert len(command.finished(tmp_path / command.FILE, fresh)) == left


def committed() -> dict[str, Any]:
    """The study's report, or skip."""
    if REPORT is None:
        pytest.skip("the study has not been run")
    return REPORT


def test_page_is_up_to_date() -> None:
    """docs/study.md is what study.json says, and its pictures are there."""
    assert command.PAGE.read_text(encoding="utf-8") == page.render(committed())
    for name in (pictures.LOSS, pictures.OUTCOMES):
        assert f"(images/{name})" in page.render(committed())
        assert (command.IMAGES / name).exists()


def test_seeds_were_trained_at_the_best_point() -> None:
    """Each arm's full trainings use its grid's lowest loss, AdamW's where it was not tuned."""
    report = committed()
    for arm in summary.arms(report):
        tuned = command.BORROWED.get(arm, arm)
        points = [e for e in report["grid"] if Arm(**e["setting"]["arm"]) == tuned]
        finished = [e for e in points if e["validation_loss"] is not None]
        lowest = sorted(finished, key=lambda e: e["validation_loss"])[0]["setting"]
        trained = [e for e in report["trainings"] if Arm(**e["setting"]["arm"]) == arm]
        seeds = [e["setting"]["seed"] for e in trained]
        assert seeds == report["settings"]["plan"]["seeds"][: len(seeds)]
        assert report["settings"]["plan"]["grid_seed"] not in report["settings"]["plan"]["seeds"]
        for entry in trained:
            assert entry["setting"]["steps"] == report["settings"]["plan"]["steps"]
            assert entry["setting"]["lr"] == lowest["lr"]
            assert entry["setting"]["weight_decay"] == lowest["weight_decay"]


def losses(report: dict[str, Any], arm: Arm, name: str = "trainings") -> list[float]:
    """Final losses of an arm in the order of the seeds."""
    wanted = {"optimizer": arm.optimizer, "qk_norm": arm.qk_norm}
    found = [e for e in report.get(name, []) if e["setting"]["arm"] == wanted]
    return [e["validation"][-1] for e in sorted(found, key=lambda e: e["setting"]["seed"])]


def moments(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation with n - 1."""
    mean = sum(values) / len(values)
    return mean, (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5


def test_tables_follow_from_the_raw_numbers() -> None:
    """Means, SDs and intervals, computed here once more."""
    report = committed()
    text = page.render(report)
    for arm in summary.arms(report):
        found = losses(report, arm)
        mean, sd = moments(found)
        assert f"| {mean:.4f} ± {sd:.4f} | {len(found)} of 5 |" in text
    pairs = [(losses(report, arm), losses(report, other)) for arm, other in summary.PAIRS]
    for qk_norm in (True, False):
        controls = losses(report, Arm(ADAMW, qk_norm), "controls")
        pairs.append((losses(report, Arm(ADAMP, qk_norm)), controls))
    compared = [(ours, theirs) for ours, theirs in pairs if min(len(ours), len(theirs)) > 1]
    assert len(compared) >= 2
    for ours, theirs in compared:
        # Those of the first seeds, where one arm has fewer.
        differences = [a - b for a, b in zip(ours, theirs, strict=False)]
        mean, sd = moments(differences)
        quantile = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}[len(differences)]
        half = quantile * sd / len(differences) ** 0.5
        row = f"| {mean:+.4f} ± {sd:.4f} | {mean - half:+.4f} to {mean + half:+.4f} |"
        assert row in text


def test_outcomes_are_counted_at_every_step() -> None:
    """Each weight of a type counts once a step; outcomes of two layers add up."""
    report = committed()
    steps = report["settings"]["plan"]["steps"]
    for entry in report["trainings"]:
        if entry["setting"]["arm"]["optimizer"] != ADAMP:
            assert entry["outcomes"] == {}
            continue
        for kind, segments in entry["outcomes"].items():
            weights = 1 if kind.endswith("embedding") or kind == "head" else model.LAYERS
            assert sum(map(sum, segments)) == weights * steps
