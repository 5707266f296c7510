"""The page's pictures, drawn from ``paper.json``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.lib.report import plots
from bench.paper import figure1, growth, rosenbrock, weight_decay
from bench.paper.experiment import Record, mean, select, values
from bench.paper.optimizers import TITLES
from bench.paper.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "gd": "black",
    "momentum": plots.THEIRS[0],
    "ours": plots.OURS,
    "sgd": plots.THEIRS[0],
    "sgdp": plots.OURS,
    "adamw": plots.THEIRS[0],
    "adamp": plots.OURS,
}


def _figure1(records: list[Record], path: Path) -> None:
    figure, (plane, loss, norm) = plots.new(1, 3, 11.5, 3.8)
    shown = [("gd", 0.0), ("momentum", 0.9), ("ours", 0.9)]
    for kind, beta in shown:
        (record,) = select(records, kind=kind, beta=beta)
        x, y = zip(*record["path"], strict=True)
        plane.plot(x, y, ".-", color=COLOURS[kind], markersize=3, linewidth=1)
    plane.plot(0, -1, "*", color=plots.OFFICIAL, markersize=11)
    plane.annotate("optimum", (0, -1), xytext=(-12, -14), textcoords="offset points", fontsize=8.5)
    plane.set_aspect("equal", "datalim")
    plane.set_title("w, every fifth iteration, β = 0.9")
    lines = dict(zip(figure1.BETAS, ("-", "--", ":"), strict=True)) | {0.0: "-"}
    for record in records:
        kind, beta = record["kind"], record["beta"]
        label = figure1.TITLES[kind] + (f", β = {beta:g}" if beta else "")
        style: Any = {"color": COLOURS[kind], "linestyle": lines[beta], "label": label}
        steps = [5 * index for index in range(len(record["losses"]))]
        loss.plot(steps, record["losses"], **style)
        norms = [(x * x + y * y) ** 0.5 for x, y in record["path"]]
        norm.plot([5 * index for index in range(len(norms))], norms, **style)
    loss.set_yscale("log")
    loss.set_ylim(1e-7, 10)
    loss.set_title("loss")
    norm.set_yscale("log")
    norm.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    norm.minorticks_off()
    norm.set_title("norm")
    for axes in (loss, norm):
        axes.set_xlabel("iteration")
        axes.grid(alpha=0.25)
    norm.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)
    plots.save(figure, path)


def _rosenbrock(records: list[Record], path: Path) -> None:
    figure, (plane, norms) = plots.new(1, 2, 9.5, 3.8)
    import numpy

    psi, phi = numpy.meshgrid(numpy.linspace(-2.4, 2.4, 200), numpy.linspace(-0.6, 2.3, 200))
    height = numpy.log((1 - psi) ** 2 + 300 * (phi - psi**2) ** 2 + 1e-2)
    plane.contour(psi, phi, height, 12, colors="lightgrey", linestyles="solid", linewidths=0.7)
    for kind in ("momentum", "ours"):
        (record,) = select(records, what="figure", kind=kind)
        x, y = zip(*record["path"], strict=True)
        label = f"{figure1.TITLES[kind]}, lr {record['lr']:g}"
        plane.plot(x, y, ".-", color=COLOURS[kind], markersize=2.5, linewidth=0.8, label=label)
    plane.plot(1, 1, "*", color=plots.OFFICIAL, markersize=11)
    plane.set_xlim(-2.4, 2.4)
    plane.set_ylim(-0.6, 2.3)
    plane.set_xlabel("psi")
    plane.set_ylabel("phi")
    plane.set_title("the figure's learning rates")
    plane.legend(fontsize=8.5, loc="lower left")
    for kind in rosenbrock.SWEPT:
        (record,) = select(records, what="sweep", kind=kind)
        norms.plot(record["rates"], record["norms"], ".", color=COLOURS[kind], markersize=2)
        norms.plot([], [], "o", color=COLOURS[kind], markersize=4, label=figure1.TITLES[kind])
    norms.set_xlabel("learning rate")
    norms.set_title("norm after 200 steps")
    norms.legend(fontsize=8.5)
    norms.grid(alpha=0.25)
    plots.save(figure, path)


def _curve(axes: Axes, x: list[float], samples: list[list[float]], optimizer: str) -> None:
    """Means over seeds, and a point for each of them."""
    colour = COLOURS[optimizer]
    means = [sum(sample) / len(sample) for sample in samples]
    axes.plot(x, means, "-", color=colour, linewidth=1.6, label=TITLES[optimizer])
    for place, sample in zip(x, samples, strict=True):
        axes.plot([place] * len(sample), sample, "o", color=colour, markersize=3, alpha=0.6)


def _growth(records: list[Record], path: Path) -> None:
    figure, panels = plots.new(1, 4, 12.5, 3.4)
    places = [float(index) for index in range(len(growth.MOMENTA))]
    titles = {"growth": "norm growth", "effective_step": "mean effective step"}
    kinds = [(pair, key) for pair in growth.FAMILIES.items() for key in titles]
    for axes, (pair, key) in zip(panels, kinds, strict=True):
        for optimizer in pair:
            samples = [
                values(records, key, optimizer=optimizer, momentum=momentum)
                for momentum in growth.MOMENTA
            ]
            _curve(axes, places, samples, optimizer)
        if key == "growth":
            axes.set_yscale("log")
        axes.set_xticks(places, [f"{momentum:g}" for momentum in growth.MOMENTA])
        axes.set_xlabel("β")
        axes.set_title(titles[key])
        axes.legend(fontsize=8.5)
        axes.grid(alpha=0.25)
    plots.save(figure, path)


def _decay(records: list[Record], path: Path) -> None:
    figure, panels = plots.new(1, 2, 8.5, 3.4)
    decays = sorted({record["weight_decay"] for record in records})
    places = [float(index) for index in range(len(decays))]
    titles = {"last_norm": "final norm", "accuracy": "test accuracy, %"}
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        scale = 100 if key == "accuracy" else 1
        for optimizer in weight_decay.OPTIMIZERS:
            samples = [
                [scale * v for v in values(records, key, optimizer=optimizer, weight_decay=decay)]
                for decay in decays
            ]
            _curve(axes, places, samples, optimizer)
        axes.set_xticks(places, [f"{decay:g}" for decay in decays])
        axes.set_xlabel("weight decay")
        axes.set_title(title)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8.5)
    panels[0].set_ylim(bottom=0)
    plots.save(figure, path)


def _retrieval(records: list[Record], path: Path) -> None:
    figure, panels = plots.new(1, 2, 8.5, 3.4)
    rates = sorted({record["lr"] for record in records})
    places = [float(index) for index in range(len(rates))]
    titles = {"last_norm": "final norm of the embedding", "recall": "recall at 1, %"}
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        scale = 100 if key == "recall" else 1
        for optimizer in ("adamw", "adamp"):
            samples = [
                [scale * value for value in values(records, key, optimizer=optimizer, lr=lr)]
                for lr in rates
            ]
            _curve(axes, places, samples, optimizer)
        axes.set_xticks(places, [f"{lr:g}" for lr in rates])
        axes.set_xlabel("learning rate")
        axes.set_title(title)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8.5)
    plots.save(figure, path)


def _training(records: list[Record], path: Path) -> None:
    """Losses of the language model."""
    figure, (axes,) = plots.new(1, 1, 5.5, 3.2)
    for place, normalised in enumerate((False, True)):
        for shift, optimizer in ((-0.12, "adamw"), (0.12, "adamp")):
            case = {"optimizer": optimizer, "normalised": normalised}
            sample = values(records, "loss", **case)
            label = TITLES[optimizer] if place == 0 else None
            x = place + shift
            axes.plot([x] * len(sample), sample, "o", color=COLOURS[optimizer], label=label)
            middle = mean(records, "loss", **case)
            axes.plot([x - 0.08, x + 0.08], [middle] * 2, color=COLOURS[optimizer], linewidth=2)
    axes.set_xticks([0, 1], ["plain", "weight-normalised"])
    axes.set_xlim(-0.5, 1.5)
    axes.set_title("validation loss, a point a seed")
    axes.legend(fontsize=8.5, loc="upper center")
    axes.grid(alpha=0.25, axis="y")
    plots.save(figure, path)


DRAWN: dict[str, Callable[[list[Record], Path], None]] = {
    "figure1": _figure1,
    "rosenbrock": _rosenbrock,
    "growth": _growth,
    "decay": _decay,
    "retrieval": _retrieval,
    "language": _training,
}


def draw(report: Report, folder: Path) -> None:
    """Draw the picture of every experiment that has one."""
    for entry in report["experiments"]:
        name = entry["name"]
        path = folder / f"paper-{name}.png"
        if name in DRAWN and plots.available(path):
            DRAWN[name](entry["records"], path)
