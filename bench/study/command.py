"""Runs the study: tunes each arm on the grid, then trains its best point with fresh seeds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from bench.lib import machine
from bench.lib.report import console, files
from bench.study import grid, model, page, pictures
from bench.study.data import BATCH, Text
from bench.study.training import ADAMP, ADAMW, HEAD_WISE, Arm, Setting, Training, train

QUICK = Path("build/study-quick")
FILE = "study.json"
PAGE = files.COMMITTED.parents[1] / "docs" / "study.md"
IMAGES = PAGE.parent / "images"

TUNED = (Arm(ADAMW, True), Arm(ADAMP, True), Arm(ADAMW, False), Arm(ADAMP, False))
BORROWED = {Arm(HEAD_WISE, True): Arm(ADAMW, True)}
"""Not tuned: it is AdamW but for Q and K, and so takes AdamW's values."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Budgets of the study. Seeds of the full trainings are none of the grid's."""

    lrs: tuple[float, ...] = grid.LRS
    weight_decays: tuple[float, ...] = grid.WEIGHT_DECAYS
    extensions: int = grid.EXTENSIONS
    grid_steps: int = 300
    grid_seed: int = 0
    steps: int = 750
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    evaluations: int = 6


SMALL = Plan((4e-3,), (0.1,), extensions=0, grid_steps=5, steps=10, seeds=(1, 2), evaluations=2)
"""For a smoke test; its losses say nothing."""


@dataclasses.dataclass
class Report:
    """Content of ``study.json``.

    Attributes:
        grid: short trainings that choose each arm's values.
        trainings: full trainings of each arm at its best point.
        controls: full trainings of AdamW at AdamP's best point, where that is another.
    """

    machine: dict[str, str | int | float | None]
    settings: dict[str, Any]
    grid: list[Training] = dataclasses.field(default_factory=list)
    trainings: list[Training] = dataclasses.field(default_factory=list)
    controls: list[Training] = dataclasses.field(default_factory=list)


def settings_of(plan: Plan, text: Text) -> dict[str, Any]:
    """All that the results depend on, as JSON has it."""
    chosen = {key: _listed(value) for key, value in dataclasses.asdict(plan).items()}
    sizes = {
        "width": model.WIDTH,
        "layers": model.LAYERS,
        "heads": model.HEADS,
        "context": model.CONTEXT,
        "batch": BATCH,
        "parameters": sum(p.numel() for p in model.GPT(text.vocabulary, False).parameters()),
    }
    return {"data": text.description, **sizes, "plan": chosen}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _training(entry: dict[str, Any]) -> Training:
    setting = entry["setting"]
    arm = Arm(**setting["arm"])
    return Training(**{**entry, "setting": Setting(**{**setting, "arm": arm})})


SAME = ("cpu", "cpu_capability", "threads", "torch")
"""What of the machine the numbers of a training depend on."""


def finished(path: Path, report: Report) -> dict[Setting, Training]:
    """The trainings that an earlier run has left, if on the same data, model and machine.

    The plan may be another: each training has its own setting.
    """
    found = files.read(path)
    if found is None:
        return {}
    same_machine = all(found["machine"][key] == report.machine[key] for key in SAME)
    if not same_machine or {**found["settings"], "plan": None} != {**report.settings, "plan": None}:
        return {}
    lists = ("grid", "trainings", "controls")
    done = [_training(entry) for name in lists for entry in found.get(name, [])]
    return {training.setting: training for training in done}


class Study:
    """The trainings of a plan, each written to disk as soon as it is done.

    Args:
        plan: budgets.
        out: folder of the report.
    """

    def __init__(self, plan: Plan, out: Path) -> None:
        """Read what an earlier run has left."""
        self.plan, self.path = plan, out / FILE
        self.text = Text()
        here = machine.describe(torch.device("cpu"))
        self.report = Report(here, settings_of(plan, self.text))
        self.finished = finished(self.path, self.report)

    def _train(self, setting: Setting, done: list[Training]) -> Training:
        if setting in self.finished:
            done.append(self.finished[setting])
            return done[-1]
        training = self.finished[setting] = train(setting, self.text)
        done.append(training)
        files.write(self.path, self.report)
        arm = f"{setting.arm.optimizer}, QK-norm {'on' if setting.arm.qk_norm else 'off'}"
        where = f"lr {setting.lr:g}, weight decay {setting.weight_decay:g}, seed {setting.seed}"
        console.say(f"  {arm}, {where}: {training.validation_loss}, {training.seconds:.0f} s")
        return training

    def tune(self, arm: Arm) -> grid.Point:
        """The best point of the arm's grid, which grows while the best is on an edge."""
        plan = self.plan
        points = [(lr, decay) for lr in plan.lrs for decay in plan.weight_decays]
        losses: dict[grid.Point, float | None] = {}
        for left in reversed(range(plan.extensions + 1)):
            for lr, decay in points:
                setting = Setting(arm, lr, decay, plan.grid_seed, plan.grid_steps, 1)
                training = self._train(setting, self.report.grid)
                losses[lr, decay] = training.validation_loss
            points = grid.extension(losses) if left else []
            if not points:
                break
        return grid.best(losses)

    def _train_all(self, points: dict[Arm, grid.Point], done: list[Training]) -> None:
        plan = self.plan
        for seed in plan.seeds:
            for arm, (lr, decay) in points.items():
                setting = Setting(arm, lr, decay, seed, plan.steps, plan.evaluations)
                self._train(setting, done)

    def run(self) -> dict[str, Any]:
        """Tune all arms, then train seed by seed, so that an interruption leaves whole pairs."""
        tuned = {arm: self.tune(arm) for arm in TUNED}
        self._train_all(tuned, self.report.trainings)
        swapped = {Arm(ADAMW, qk): tuned[Arm(ADAMP, qk)] for qk in (True, False)}
        controls = {arm: point for arm, point in swapped.items() if point != tuned[arm]}
        self._train_all(controls, self.report.controls)
        borrowed = {arm: tuned[like] for arm, like in BORROWED.items()}
        self._train_all(borrowed, self.report.trainings)
        files.write(self.path, self.report)
        report = files.read(self.path)
        assert report is not None
        return report


def run(quick: bool, out: str | None) -> None:
    """Run the study or go on with it; write its report, its page and its pictures.

    Args:
        quick: a few steps, in ``build/study-quick`` unless ``out`` names a folder.
        out: folder of results; only those of bench/results become docs/study.md.
    """
    folder = files.folder(out or (str(QUICK) if quick else None))
    report = Study(SMALL if quick else Plan(), folder).run()
    published = folder.resolve() == files.COMMITTED.resolve() and not quick
    target, images = (PAGE, IMAGES) if published else (folder / PAGE.name, folder)
    target.write_text(page.render(report), encoding="utf-8")
    pictures.draw(report, images)
    console.say(f"  results: {folder / FILE}, {target}", console.DIM)
