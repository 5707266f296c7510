"""The study's pictures, made from the report alone."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.lib.report import plots
from bench.study import summary
from bench.study.training import ADAMP, ADAMW, HEAD_WISE, Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSS = "study-loss.png"
OUTCOMES = "study-outcomes.png"
COLOURS = {ADAMW: plots.THEIRS[0], ADAMP: plots.OURS, HEAD_WISE: plots.OFFICIAL}
OUTCOME_COLOURS = {
    "channel-wise": (1, plots.THEIRS[1]),
    "layer-wise": (2, plots.OURS),
    "none": (0, "#e4e7ec"),
}
"""By outcome its place in the counts and its colour, from left to right."""


def _title(qk_norm: bool) -> str:
    return f"QK-norm {'on' if qk_norm else 'off'}"


def _band(
    axes: Axes, steps: list[int], curves: list[list[float]], name: str, remark: str = ""
) -> None:
    """Mean and ± SD over seeds of one optimizer's curves."""
    columns = list(zip(*curves, strict=True))
    means = [statistics.fmean(column) for column in columns]
    sds = [statistics.stdev(column) for column in columns]
    # AdamW is drawn first and wide, for the others may lie on it.
    width, dashes = (1.5, "--") if remark else (3.5 if name == ADAMW else 1.5, "-")
    style: Any = {"color": COLOURS[name], "linewidth": width, "linestyle": dashes}
    axes.plot(steps, means, label=name + remark, **style)
    low = [mean - sd for mean, sd in zip(means, sds, strict=True)]
    high = [mean + sd for mean, sd in zip(means, sds, strict=True)]
    axes.fill_between(steps, low, high, color=COLOURS[name], alpha=0.18, linewidth=0)


def draw_losses(report: dict[str, Any], path: Path) -> None:
    """Validation loss above, below it the gap to AdamW, seed by seed."""
    figure, axes = plots.new(2, 2, 10, 6)
    for column, qk_norm in enumerate((True, False)):
        loss, gap = axes[column], axes[2 + column]
        baseline = _curves(report, Arm(ADAMW, qk_norm))
        for arm in summary.arms(report):
            if arm.qk_norm != qk_norm:
                continue
            curves = _curves(report, arm)
            steps = summary.of(report, arm)[0]["evaluated_at"]
            # The first point is the untrained model, which is the same for all.
            _band(loss, steps[1:], [curve[1:] for curve in curves.values()], arm.optimizer)
            if arm.optimizer != ADAMW:
                _band(gap, steps[1:], _gaps(curves, baseline), arm.optimizer)
        if controls := _curves(report, Arm(ADAMW, qk_norm), "controls"):
            curves = _curves(report, Arm(ADAMP, qk_norm))
            after = [curve[1:] for curve in controls.values()]
            _band(loss, steps[1:], after, ADAMW, summary.CONTROL)
            remark = f", both{summary.CONTROL}"
            _band(gap, steps[1:], _gaps(curves, controls), ADAMP, remark)
        loss.set_title(f"{_title(qk_norm)}: validation loss, nats a character")
        gap.set_title(f"{_title(qk_norm)}: less AdamW's of the same seed")
        gap.axhline(0, color=COLOURS[ADAMW], linewidth=1.2)
        loss.legend(fontsize=9)
        gap.legend(fontsize=9, loc="lower left")
        for panel in (loss, gap):
            panel.set_xlabel("step")
            panel.grid(alpha=0.25)
    # The same range left and right.
    for pair in (axes[:2], axes[2:]):
        limits = [panel.get_ylim() for panel in pair]
        for panel in pair:
            panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    seeds = len(report["settings"]["plan"]["seeds"])
    figure.supxlabel(
        f"mean and ± SD over {seeds} seeds; {plots.where(report['machine'])}", fontsize=8.5
    )
    plots.save(figure, path)


def _curves(report: dict[str, Any], arm: Arm, name: str = "trainings") -> dict[int, list[float]]:
    return {
        entry["setting"]["seed"]: entry["validation"]
        for entry in summary.of(report, arm, name)
        if entry["validation_loss"] is not None
    }


def _gaps(curves: dict[int, list[float]], baseline: dict[int, list[float]]) -> list[list[float]]:
    return [
        [a - b for a, b in zip(curve[1:], baseline[seed][1:], strict=True)]
        for seed, curve in curves.items()
        if seed in baseline
    ]


def draw_outcomes(report: dict[str, Any], path: Path) -> None:
    """Shares of the outcomes by layer type, QK-norm on and off."""
    figure, axes = plots.new(1, 2, 10, 4)
    for panel, qk_norm in zip(axes, (True, False), strict=True):
        counts = summary.outcome_counts(report, Arm(ADAMP, qk_norm))
        kinds = [kind for kind in report_order(report) if kind in counts]
        left = [0.0] * len(kinds)
        for outcome, (index, colour) in OUTCOME_COLOURS.items():
            shares = [100 * counts[kind][index] / sum(counts[kind]) for kind in kinds]
            panel.barh(kinds, shares, left=left, color=colour, height=0.66, label=outcome)
            left = [start + share for start, share in zip(left, shares, strict=True)]
        for place, kind in enumerate(kinds):
            projected = 100 * (1 - counts[kind][0] / sum(counts[kind]))
            panel.annotate(
                f"{projected:.0f}" if projected >= 9.95 else f"{projected:.1f}",
                (100, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        panel.set_xlim(0, 100)
        panel.invert_yaxis()
        panel.tick_params(axis="y", length=0)
        panel.set_title(_title(qk_norm))
        panel.set_xlabel("% of all steps (number: projected)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, fontsize=9)
    figure.suptitle("AdamP: outcomes of the projection test", x=0.01, ha="left")
    plots.save(figure, path)


def report_order(report: dict[str, Any]) -> list[str]:
    """Layer types from the input of the model to its output."""
    from bench.study.model import LAYER_TYPES

    found = {kind for entry in report["trainings"] for kind in entry["norms"]}
    return [kind for kind in dict.fromkeys(LAYER_TYPES.values()) if kind in found]


def draw(report: dict[str, Any], images: Path) -> None:
    """Draw both pictures into the folder ``images``."""
    for name, picture in ((LOSS, draw_losses), (OUTCOMES, draw_outcomes)):
        if plots.available(images / name):
            picture(report, images / name)
