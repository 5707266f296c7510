"""The figure of ``python -m bench growth``."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bench.lib.bytes import step_bytes
from bench.lib.implementations import FAMILIES
from bench.lib.report import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = dict[str, Any]

LABEL_HEIGHT = 11.5
"""Points from one name to the next."""

LEADER: Any = {"linestyle": ":", "linewidth": 0.8}
AXES = {
    "parameters": ("numel", "parameters, in {tensors:,} tensors"),
    "tensors": ("tensors", "tensors, of {millions:,g} million parameters together"),
}


class End(NamedTuple):
    """Where a curve ends, and its name."""

    x: float
    y: float
    text: str
    colour: str


def _curves(report: Report, sweep: str) -> dict[str, list[Report]]:
    """The points of each implementation in one sweep, in growing order."""
    curves: dict[str, list[Report]] = {}
    for point in report["points"]:
        if point["sweep"] == sweep:
            curves.setdefault(point["implementation"], []).append(point)
    return curves


def apart(places: list[float], least: float, low: float, high: float) -> list[float]:
    """Sorted places, moved as little as can be until they are ``least`` apart, from low to high.

    The least squares: places that would come too near move together, around the mean of them all.
    """
    blocks: list[list[float]] = []
    for index, place in enumerate(places):
        block = [place - index * least]
        while blocks and fmean(blocks[-1]) > fmean(block):
            block = blocks.pop() + block
        blocks.append(block)
    top = high - (len(places) - 1) * least
    flat = [min(max(fmean(block), low), top) for block in blocks for _ in block]
    return [place + index * least for index, place in enumerate(flat)]


def _label_ends(axes: Axes, ends: list[End]) -> None:
    """Write the names in a column to the right of the panel, where no curve runs.

    A dotted line leads from the last point to the edge of the panel, and on to its name.
    """
    axes.figure.canvas.draw()
    axes.set_xlim(axes.get_xlim())  # for the dotted lines, which would widen it
    line = LABEL_HEIGHT / (axes.bbox.height * 72 / axes.figure.dpi)
    to_edge = axes.transScale + axes.transLimits
    ends = sorted(ends, key=lambda end: end.y)
    heights = [float(to_edge.transform((end.x, end.y))[1]) for end in ends]
    for end, height in zip(ends, apart(heights, line, line / 2, 1 - line / 2), strict=True):
        axes.plot([end.x, axes.get_xlim()[1]], [end.y] * 2, color=end.colour, **LEADER)
        axes.annotate(
            end.text,
            (1, end.y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(1.035, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=end.colour,
            fontweight="bold" if end.colour == plots.OURS else "normal",
            arrowprops={"arrowstyle": "-", "color": end.colour, "relpos": (0, 0.5)}
            | {"shrinkA": 1, "shrinkB": 0, **LEADER},
            annotation_clip=False,
        )


def _panel(axes: Axes, report: Report, sweep: str) -> None:
    key, words = AXES[sweep]
    curves = _curves(report, sweep)
    ends = []
    for points in curves.values():
        first, last = points[0], points[-1]
        colour = plots.OURS if first["ours"] else plots.THEIRS[0]
        if first["label"].startswith("adamp "):
            colour = plots.OFFICIAL
        x = [point[key] for point in points]
        y = [point["ns_per_parameter"] for point in points]
        one_state = first["family"] == FAMILIES[1].name
        axes.plot(
            x, y, color=colour, linestyle="--" if one_state else "-", marker="o", markersize=3.5
        )
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
        ends.append(End(last[key], last["ns_per_parameter"], first["label"], colour))
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends += _limits(axes, report)
    axes.set_title(f"ns per parameter by number of {sweep}")
    some = next(iter(curves.values()))[0]
    axes.set_xlabel(words.format(**some, millions=round(some["numel"] / 1e6, 1)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.grid(alpha=0.25)
    _label_ends(axes, ends)


def _limits(axes: Axes, report: Report) -> list[End]:
    """Lines at what memory allows: the bytes of one pass at the memory bandwidth."""
    ends = []
    for family, style in zip(FAMILIES, ("-", "--"), strict=True):
        needed = step_bytes(1, family.states, torch.float32)
        limit = needed / report["bandwidth"]["limit"] * 1e9
        axes.axhline(limit, color="grey", linewidth=0.8, linestyle=style, zorder=0)
        ends.append(End(axes.get_xlim()[1], limit, f"{needed} bytes at the bandwidth", "grey"))
    return ends


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
    plots.save(figure, path)
