"""PNG plots of the results; without matplotlib a line says so and everything else goes on."""

from __future__ import annotations

import importlib.util
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.lib.implementations import FAMILIES, Family
from bench.lib.report import console

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS = "#1b7f5c"
OFFICIAL = "#d1603d"
THEIRS = ("#3d5a80", "#7f9cbf", "#b9c8dc")
OURS_LIGHTER = ("#1b7f5c", "#6cbf9f", "#b5e0cf")
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "legend.frameon": False,
    "figure.dpi": 150,
}


def available(path: Path) -> bool:
    """Whether there is matplotlib; says so where there is not."""
    if importlib.util.find_spec("matplotlib") is not None:
        return True
    console.say(f"  no plot {path.name}: matplotlib is not installed", console.DIM)
    return False


def new(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of ``rows`` times ``columns`` panels."""
    import matplotlib

    # No display needed.
    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update(STYLE)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(width, height), squeeze=False, layout="constrained"
    )
    return figure, list(axes.flat)


def save(figure: Figure, path: Path) -> None:
    """Write a figure to ``path`` and forget it."""
    from matplotlib import pyplot

    figure.savefig(path)
    pyplot.close(figure)
    console.say(f"  plot: {path}", console.DIM)


def where(machine: dict[str, Any]) -> str:
    """The machine in one line."""
    cpu = f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores"
    return f"{machine['gpu'] or cpu}, torch {machine['torch']}, {machine['date'][:10]}"


def _colours(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Greens for this package's implementations, orange for the authors', blues for torch's."""
    ours, theirs = iter(OURS_LIGHTER), iter(THEIRS)
    return {
        row["label"]: next(ours, OURS_LIGHTER[-1])
        if row["ours"]
        else OFFICIAL
        if row["label"].startswith("adamp ")
        else next(theirs, THEIRS[-1])
        for row in rows
    }


def _ratio_bars(axes: Axes, workloads: list[dict[str, Any]], family: Family) -> None:
    """Grouped bars, one group per workload, their length the ratio to the family's baseline."""
    groups = [[row for row in w["rows"] if row["family"] == family.name] for w in workloads]
    baseline = next(row["label"] for row in groups[0] if row["implementation"] == family.baseline)
    colours = _colours(max(groups, key=len))
    del colours[baseline]  # it is the line at 1
    height = 0.84 / len(colours)
    for index, (label, colour) in enumerate(colours.items()):
        found = [
            (place + (index - (len(colours) - 1) / 2) * height, row["ratio"])
            for place, rows in enumerate(groups)
            for row in rows
            if row["label"] == label
        ]
        places, ratios = [place for place, _ in found], [ratio for _, ratio in found]
        # Bars start at 1: to the right is slower than the baseline, to the left faster.
        axes.barh(
            places,
            [ratio - 1 for ratio in ratios],
            left=1,
            height=height * 0.9,
            color=colour,
            label=label,
        )
        for place, ratio in found:
            left = ratio < 1
            axes.annotate(
                f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}",
                (ratio, place),
                xytext=(-3 if left else 3, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
                fontsize=7.5,
                fontweight="bold" if colour == OURS else "normal",
            )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.3, high * 1.3)
    from matplotlib.ticker import LogLocator, NullFormatter

    # Within a decade matplotlib would label every minor tick, one over the other.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(workloads)), [workload["title"] for workload in workloads])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"{family.title}: step time as a multiple of {baseline}")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)


def step_ratios(report: dict[str, Any], path: Path) -> None:
    """Draw step times as ratios to the fused torch optimizers, a panel per family."""
    workloads = report["workloads"]
    present = {row["family"] for workload in workloads for row in workload["rows"]}
    families = [family for family in FAMILIES if family.name in present]
    if not families or not available(path):
        return
    figure, panels = new(len(families), 1, 9.5, 1.2 + len(families) * 0.72 * (1 + len(workloads)))
    for axes, family in zip(panels, families, strict=True):
        _ratio_bars(axes, workloads, family)
    figure.supxlabel(f"left of 1 is faster; {where(report['machine'])}", fontsize=8.5)
    save(figure, path)


def _smooth(values: list[float], width: int) -> list[float]:
    """Running mean over up to ``width`` past values."""
    return [statistics.fmean(values[max(0, i + 1 - width) : i + 1]) for i in range(len(values))]


def training(task: dict[str, Any], machine: dict[str, Any], path: Path) -> None:
    """Draw a task's training loss, its metric and the optimizer's share of the time."""
    if not available(path):
        return
    figure, (loss, metric, share) = new(1, 3, 11.5, 3.6)
    width = max(1, task["steps"] // 40)
    colours = _colours(task["runs"])
    for index, run in enumerate(task["runs"]):
        # Each thinner than the one before and ours dashed: curves may coincide exactly.
        style: dict[str, Any] = {"color": colours[run["label"]], "label": run["label"]}
        style["linewidth"] = max(1.6, 4.4 - 1.4 * index)
        style |= {"linestyle": (0, (4, 3)), "zorder": 3} if run["ours"] else {}
        loss.plot(_smooth(run["losses"], width), **style)
        values = [100 * value for value in run["metric"]] if task["percent"] else run["metric"]
        metric.plot(run["evaluated_at"], values, marker="o", markersize=3, **style)
    if min(task["runs"][0]["losses"]) < 0.05:
        loss.set_yscale("log")
    loss.set_title("training loss" + (f", mean of {width} steps" if width > 1 else ""))
    metric.set_title(task["metric"] + (", %" if task["percent"] else ""))
    loss.legend(fontsize=8.5)
    for axes in (loss, metric):
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
    labels = [run["label"] for run in task["runs"]]
    bars = share.barh(
        labels,
        [100 * run["optimizer_share"] for run in task["runs"]],
        color=[colours[label] for label in labels],
        height=0.6,
    )
    share.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
    share.invert_yaxis()
    share.set_title("time in step(), % of an iteration")
    share.margins(x=0.15)
    figure.suptitle(f"{task['title']} ({task['parameters']:,} parameters)", x=0.01, ha="left")
    figure.supxlabel(where(machine), fontsize=8.5)
    save(figure, path)
