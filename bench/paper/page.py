"""docs/paper.md, made from ``paper.json`` alone."""

from __future__ import annotations

import textwrap
from pathlib import Path

from bench.lib.report import markdown
from bench.paper.experiment import Experiment, Gate
from bench.paper.registry import EXPERIMENTS
from bench.paper.report import Report, gates_of

DOCS = Path(__file__).parents[2] / "docs"
FILE = "paper.md"

WIDTH = 120

HEAD = (
    "# The paper, replayed",
    "<!-- Made by `python -m bench paper` from bench/results/paper.json; do not edit. -->",
    "What AdamP's paper ([Heo et al., ICLR 2021](https://arxiv.org/abs/2006.08217)) says, measured "
    "with the optimizers of this package on a CPU. The data ship with scikit-learn and Python; "
    "nothing is downloaded. What the paper explains (norms, effective steps, which weights are "
    "scale-invariant) has pass marks. Accuracies of networks this small are published, and gated "
    "only against harm. The pass marks came first; learning rates and lengths were then chosen in "
    "trial runs of one to three seeds. The tables on ImageNet, COCO, audio and WikiText are not "
    "replayed.",
    "`python -m bench paper` repeats everything, `--quick` a smaller form, `--only lemmas,figure1` "
    "a part; it exits with 1 where a pass mark is missed. A ± is the standard deviation over "
    "seeds, SD that of two optimizers, pooled.",
)


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False)


def _value(value: float) -> str:
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}"


def _verdict(gates: list[Gate]) -> str:
    if not gates:
        return "published"
    return "PASS" if all(gate.passed for gate in gates) else "FAIL"


def _summary(report: Report) -> str:
    rows = []
    for entry in report["experiments"]:
        experiment, gates = EXPERIMENTS[entry["name"]], gates_of(entry)
        passed = f"{sum(gate.passed for gate in gates)} of {len(gates)}"
        title = f"[{experiment.title}](#{_anchor(experiment.title)})"
        rows.append([title, passed if gates else "-", _verdict(gates)])
    return markdown.table(["experiment", "pass marks kept", "verdict"], rows)


def _anchor(title: str) -> str:
    kept = [char for char in title.lower().replace(" ", "-") if char.isalnum() or char == "-"]
    return "".join(kept)


def _gates(gates: list[Gate]) -> str:
    rows = [
        [
            gate.what,
            f"{gate.relation} {gate.limit:g}",
            _value(gate.value),
            "PASS" if gate.passed else "**FAIL**",
        ]
        for gate in gates
    ]
    return markdown.table(["gate", "pass mark", "measured", "verdict"], rows)


def _section(experiment: Experiment, entry: Report) -> str:
    gates = gates_of(entry)
    header, *rows = [
        # A bar would end the cell.
        [cell.replace("|", "\\|") for cell in row]
        for row in experiment.table(entry["records"])
    ]
    parts = [
        f"## {experiment.title}",
        _wrapped(f"**The paper** ({experiment.section}): {experiment.statement}"),
        _wrapped(f"**Here**: {experiment.setup}"),
        _wrapped(f"**Pass mark**: {experiment.mark}. **Verdict: {_verdict(gates)}**."),
        markdown.table(header, rows),
    ]
    if gates:
        parts.append(_gates(gates))
    if experiment.remark:
        parts.append(_wrapped(experiment.remark))
    if experiment.picture is not None:
        file, alternative = experiment.picture
        parts.append(f"![{alternative}](images/{file})")
    return "\n\n".join(parts)


def _measured(report: Report) -> str:
    seconds = sum(entry["seconds"] for entry in report["experiments"])
    machine = markdown.machine(report["experiments"][0]["machine"])
    form = "the quick form" if report["settings"]["quick"] else "the full form"
    return (
        f"{machine} Backend {report['settings']['backend']}, one thread a training, {form}: "
        f"{seconds / 60:.0f} minutes of one core."
    )


def text(report: Report) -> str:
    """The whole page."""
    sections = [_section(EXPERIMENTS[entry["name"]], entry) for entry in report["experiments"]]
    parts = [*map(_wrapped, HEAD), _summary(report), *sections, _wrapped(_measured(report))]
    return "\n\n".join(parts) + "\n"
