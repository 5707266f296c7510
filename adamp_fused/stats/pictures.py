"""A run as heat maps: one row for each layer, one column for each recorded step."""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adamp_fused._stats import OUTCOMES
from adamp_fused.stats import layers
from adamp_fused.stats.records import Run, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

_OUTCOME_COLOURS = ("#c9ccd1", "#1b7f5c", "#e0a030")
_ROW_HEIGHT = 0.135  # inches, of a name that can be read
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.dpi": 150,
}


@dataclass(frozen=True)
class Panel:
    """One quantity.

    Attributes:
        key: of the statistics, or "margin".
        title: what it is.
        unit: label of the colour bar.
    """

    key: str
    title: str
    unit: str


PANELS = (
    Panel("outcome", "Outcome of the test", ""),
    Panel("margin", "Margin of the test", "largest |cos(w, g)| / bound\nbelow 1: projected"),
    Panel("growth", "Weight norm", "times the norm at the first step"),
    Panel("effective_lr", "Effective learning rate", "lr · ‖update‖ / ‖weight‖ in a step"),
)


def draw(
    runs: list[Run], path: str | os.PathLike[str], all_parameters: bool = False
) -> dict[str, int]:
    """Draw one run, or two side by side with the same colours.

    Args:
        runs: one or two.
        path: of the picture; its suffix says the format (png, pdf, svg).
        all_parameters: show those of fewer than two dimensions as well, which are never projected.

    Returns:
        How many "layers" and "steps" were drawn.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: not one or two runs, or nothing to draw in them.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            "matplotlib is not installed and pictures need it: pip install matplotlib, or "
            "pip install 'adamp_fused[plots]'"
        )
    if len(runs) not in (1, 2):
        raise ValueError(f"{len(runs)} runs were given and one or two can be drawn")
    names = layers.merged([run.names(all_parameters) for run in runs])
    if not names:
        raise ValueError(
            f"{runs[0].path} has no parameter of two or more dimensions and must have one; "
            "pass --all to draw the others"
        )
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(_STYLE):
        height = min(max(len(names) * 1.35 * _ROW_HEIGHT, 2.4), 12.0)
        # Two runs: narrower maps, of which there are twice as many.
        width = len(PANELS) * (3.0 if len(runs) == 1 else 4.6) + 2.2
        layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04, wspace=0.01)
        figure = Figure(figsize=(width, height + 1.9), layout=layout)
        FigureCanvasAgg(figure)  # no display is needed, and none is changed
        _fill(figure, runs, names, height)
        figure.savefig(path)
    return {"layers": len(names), "steps": max(len(run.records) for run in runs)}


def _fill(figure: Figure, runs: list[Run], names: list[str], height: float) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots(1, len(PANELS) * len(runs), sharey=True, squeeze=False)[0]
    first = min(run.steps[0] for run in runs)
    last = max(run.steps[-1] for run in runs)
    missing = 0
    for column, panel in enumerate(PANELS):
        beside = axes[column * len(runs) : (column + 1) * len(runs)]
        values = [series(run, names, panel.key) for run in runs]
        finite = [v for rows in values for row in rows for v in row if math.isfinite(v)]
        missing += sum(math.isinf(v) for rows in values for row in rows for v in row)
        colours, norm = _colours(panel, finite)
        for run, ax, rows in zip(runs, beside, values, strict=True):
            mesh = ax.pcolormesh(
                _edges(run.steps), range(len(names) + 1), rows, cmap=colours, norm=norm
            )
            mesh.set_rasterized(True)
            ax.set_xlim(first, max(last, first + 1))
            ax.set_xlabel("step")
            ax.xaxis.set_major_locator(MaxNLocator(4, prune="upper", integer=True))
            ax.set_facecolor("white")
            ax.tick_params(axis="y", length=0)
            if len(runs) == 2:
                ax.set_title(_short(run), fontsize=8)
        _title(figure, panel, beside)
        bar = figure.colorbar(
            mesh, ax=list(beside), location="bottom", shrink=0.9, aspect=28, pad=0.02
        )
        bar.ax.tick_params(labelsize=8)
        bar.set_label(panel.unit, fontsize=8)
        if panel.key == "outcome":
            bar.set_ticks([0, 1, 2], labels=list(OUTCOMES))
        else:
            _label_powers(bar.ax, norm)
    axes[0].set_ylim(len(names), 0)
    _name_rows(axes, names, height)
    about = f"{len(names)} layers, steps {first:,} to {last:,}"
    if missing:
        about += f"; {missing} infinite values are left white"
    titles = " and ".join(f"{run.path.name} ({run.optimizer})" for run in runs)
    figure.suptitle(f"{titles}: {about}", fontsize=11, fontweight="bold")


def _title(figure: Figure, panel: Panel, beside: list[Axes]) -> None:
    """Name a quantity above its map or its two maps."""
    if len(beside) == 1:
        beside[0].set_title(panel.title, fontweight="bold", loc="left")
        return
    beside[0].set_title(f"{panel.title}\n", fontweight="bold", loc="left")


def _colours(panel: Panel, finite: list[float]) -> tuple[Colormap, Normalize]:
    """Colour map and scale of a quantity, for all runs of a picture."""
    import matplotlib
    from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm

    if panel.key == "outcome":
        return ListedColormap(_OUTCOME_COLOURS), BoundaryNorm([-0.5, 0.5, 1.5, 2.5], 3)
    positive = sorted(v for v in finite if v > 0) or [1.0]
    # A few values must not use up the scale.
    low, high = (positive[int(share * (len(positive) - 1))] for share in (0.005, 0.995))
    if panel.key == "effective_lr":
        return matplotlib.colormaps["viridis"], LogNorm(low, max(high, low * 1.1), clip=True)
    # 1 is in the middle: the bound of the test, and the norm at the beginning.
    reach = max(high, 1 / low, 1.05)
    if panel.key == "margin":
        reach = min(reach, 1e3)
    name = "PuOr_r" if panel.key == "margin" else "RdBu_r"
    return matplotlib.colormaps[name], LogNorm(1 / reach, reach, clip=True)


def _label_powers(ax: Axes, norm: Normalize) -> None:
    """Numbers on a logarithmic colour bar: powers of ten, or more where these are too few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = norm.vmin or 1.0, norm.vmax or 1.0
    decades = math.log10(high / low)
    if decades < 0.5:
        ax.set_xticks([low, math.sqrt(low * high), high])
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        several = (1.0, 2.0, 5.0) if decades < 2 else (1.0,)
        ax.xaxis.set_major_locator(LogLocator(subs=several))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{float(f'{value:.3g}'):g}"))


def _edges(steps: list[int]) -> list[float]:
    """Where columns begin and end: half-way between steps, the first one at its step."""
    middles = [(a + b) / 2 for a, b in itertools.pairwise(steps)]
    last = steps[-1] + (steps[-1] - middles[-1] if middles else 1)
    return [float(steps[0]), *middles, float(last)]


def _name_rows(axes: Any, names: list[str], height: float) -> None:
    """Names at the left where they fit; else those of the modules that layers belong to."""
    left = axes[0]
    if height / len(names) >= _ROW_HEIGHT * 0.8:
        left.set_yticks([i + 0.5 for i in range(len(names))], labels=names, fontsize=7)
        return
    groups = layers.grouped(names, most=int(height / _ROW_HEIGHT))
    left.set_yticks([(g.begin + g.end) / 2 for g in groups], labels=[g.label for g in groups])
    left.tick_params(axis="y", labelsize=7)
    for ax in axes:
        for group in groups[1:]:
            ax.axhline(group.begin, color="white", linewidth=0.6)


def _short(run: Run) -> str:
    return f"{run.path.stem} ({run.optimizer})"
