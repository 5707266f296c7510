"""The figure of ``python -m bench growth``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import plots
from bench.contenders import FAMILIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = dict[str, Any]

FAINT: Any = {"color": "grey", "fontsize": 7.5}
AXES = {
    "parameters": ("numel", "parameters, in {tensors:,} tensors"),
    "tensors": ("tensors", "tensors, of {millions:,g} million parameters together"),
}


def _curves(report: Report, sweep: str) -> dict[str, list[Report]]:
    """The points of each contender in one sweep, in growing order."""
    curves: dict[str, list[Report]] = {}
    for point in report["points"]:
        if point["sweep"] == sweep:
            curves.setdefault(point["contender"], []).append(point)
    return curves


def _apart(places: list[float], least: float) -> list[float]:
    """Move sorted places up until neighbours are ``least`` apart, then all back to the middle."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least) if moved else place)
    shift = sum(moved) / len(moved) - sum(places) / len(places)
    return [place - shift for place in moved]


def _label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each curve's name beside its last point, far enough from the next one's."""
    axes.figure.canvas.draw()
    ends = sorted(ends, key=lambda end: end[1])
    pixels = [axes.transData.transform((x, y)) for x, y, _, _ in ends]
    points = 72 / axes.figure.dpi
    heights = _apart([float(y) * points for _, y in pixels], 11.5)
    for (x, y, text, colour), (_, pixel), height in zip(ends, pixels, heights, strict=True):
        axes.annotate(
            text,
            (x, y),
            xytext=(8, height - float(pixel) * points),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=colour,
            fontweight="bold" if colour == plots.OURS else "normal",
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
        ends.append((last[key], last["ns_per_parameter"], first["label"], colour))
    axes.set_xscale("log")
    axes.set_yscale("log")
    _limits(axes, report)
    axes.set_title(f"ns per parameter by number of {sweep}")
    some = next(iter(curves.values()))[0]
    axes.set_xlabel(words.format(**some, millions=round(some["numel"] / 1e6, 1)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.grid(alpha=0.25)
    _label_ends(axes, ends)


def _limits(axes: Axes, report: Report) -> None:
    """Lines at what memory allows: all bytes of a step at the rate of a plain addition or copy."""
    for family, style, side in zip(FAMILIES, ("-", "--"), ("bottom", "top"), strict=True):
        needed = 4 * (3 + 2 * family.states)
        limit = needed / report["rate"]["limit"] * 1e9
        axes.axhline(limit, color="grey", linewidth=0.8, linestyle=style, zorder=0)
        said = f"{needed} bytes at the rate of memory"
        place: Any = axes.get_yaxis_transform()
        axes.text(0.01, limit, said, {"va": side}, transform=place, **FAINT)


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
