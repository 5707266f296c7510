"""``python -m bench pictures``: the README's pictures, drawn from the committed results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from bench import layer
from bench.lib.report import files, markdown, plots

DOCS = Path(__file__).parents[3] / "docs" / "images"


class Bar(NamedTuple):
    """A bar: what was run on what, and its time as a multiple of torch's fused AdamW."""

    workload: str
    ratio: float


def gpu_bars(report: dict[str, Any]) -> list[Bar]:
    """Kernel times of FusedAdamP that the targets were measured with."""
    names = ("kernel", "large")
    return [Bar(c["workload"], c["figure"]) for c in report["cells"] if c["name"] in names]


def cpu_bars(report: dict[str, Any]) -> list[Bar]:
    """Step times of FusedAdamP on the native CPU kernels."""
    return [
        Bar(markdown.short(workload["title"]), row["ratio"])
        for workload in report["workloads"]
        for row in workload["rows"]
        if row["implementation"] == "fused-adamp-cpu"
    ]


def _draw(bars: list[Bar], title: str, machine: dict[str, Any], path: Path) -> None:
    figure, (axes,) = plots.new(1, 1, 7.2, 0.9 + 0.34 * len(bars))
    drawn = axes.barh(
        [bar.workload for bar in bars], [bar.ratio for bar in bars], color=plots.OURS, height=0.62
    )
    axes.bar_label(drawn, fmt="%.2f", padding=-30, fontsize=9, fontweight="bold", color="white")
    axes.axvline(1, color=plots.THEIRS[0], linewidth=1.5)
    axes.annotate(
        "AdamW (fused)",
        (1, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, 2),
        textcoords="offset points",
        fontsize=8.5,
        color=plots.THEIRS[0],
    )
    axes.set_xlim(0, 1.22)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_title(title)
    figure.supxlabel(f"shorter is faster; {plots.where(machine)}", fontsize=8)
    plots.save(figure, path)


def run(folder: Path) -> int:
    """Draw all pictures; an exit status."""
    if not plots.available(DOCS):
        return 1
    gpu, cpu = files.read(folder / "gpu-targets.json"), files.read(folder / "cpu-step.json")
    if gpu is not None:
        title = "FusedAdamP, kernel time of a step"
        _draw(gpu_bars(gpu), title, gpu["machine"], DOCS / "step-gpu.png")
    if cpu is not None:
        _draw(cpu_bars(cpu), "FusedAdamP, step time", cpu["machine"], DOCS / "step-cpu.png")
    recorded = files.read(folder / "layer.json")
    if recorded is not None:
        layer.draw(recorded, DOCS / "layer.png")
    return 0
