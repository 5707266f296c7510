"""The figure of ``python -m bench growth``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.lib.bytes import step_bytes
from bench.lib.implementations import FAMILIES
from bench.lib.report import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = dict[str, Any]

AXES = {
    "parameters": ("numel", "parameters, in {tensors:,} tensors"),
    "tensors": ("tensors", "tensors, of {millions:,g} million parameters together"),
}


def _curves(report: Report, sweep: str) -> list[list[Report]]:
    """The points of each implementation in one sweep, in growing order."""
    curves: dict[str, list[Report]] = {}
    for point in report["points"]:
        if point["sweep"] == sweep:
            curves.setdefault(point["implementation"], []).append(point)
    return list(curves.values())


def _panel(axes: Axes, report: Report, sweep: str) -> None:
    key, words = AXES[sweep]
    curves = _curves(report, sweep)
    for points in curves:
        first = points[0]
        colour = plots.OURS if first["ours"] else plots.THEIRS[0]
        if first["label"].startswith("adamp "):
            colour = plots.OFFICIAL
        x = [point[key] for point in points]
        y = [point["ns_per_parameter"] for point in points]
        style: Any = {"color": colour, "marker": "o", "markersize": 3.5, "label": first["label"]}
        axes.plot(x, y, linestyle=_line(first["family"]), **style)
        alone = [point for point in points if not point["in_turn"]]
        axes.plot(
            [point[key] for point in alone],
            [point["ns_per_parameter"] for point in alone],
            color=colour,
            linestyle="",
            marker="o",
            markersize=6,
            markerfacecolor="white",
            zorder=3,
        )
    for family in FAMILIES:
        needed = step_bytes(1, family.states, torch.float32)
        limit = needed / report["bandwidth"]["limit"] * 1e9
        label = f"{needed} bytes at the bandwidth"
        style = {"color": "grey", "linewidth": 0.8, "zorder": 0, "label": label}
        axes.axhline(limit, linestyle=_line(family.name), **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(f"ns per parameter by number of {sweep}")
    some = curves[0][0]
    axes.set_xlabel(words.format(**some, millions=round(some["numel"] / 1e6, 1)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.grid(alpha=0.25)


def _line(family: str) -> str:
    return "--" if family == FAMILIES[1].name else "-"


def draw(report: Report, path: Path) -> None:
    """Draw both sweeps side by side."""
    if not report["points"] or not plots.available(path):
        return
    figure, panels = plots.new(1, 2, 13.5, 5.2)
    figure.supxlabel(
        "solid: two states a parameter, dashed: one; below grey: in cache; "
        "hollow: measured one after the other, for lack of memory\n"
        f"{plots.where(report['machine'])}",
        fontsize=8.5,
    )
    for axes, sweep in zip(panels, AXES, strict=True):
        _panel(axes, report, sweep)
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)
    plots.save(figure, path)
