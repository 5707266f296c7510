"""docs/study.md, made from ``study.json`` alone."""

from __future__ import annotations

import statistics
from typing import Any

from bench.lib.report import markdown
from bench.study import grid, summary
from bench.study.pictures import LOSS, OUTCOMES, report_order
from bench.study.training import ADAMP, ADAMW, HEAD_WISE, Arm

Report = dict[str, Any]

QUESTION = """\
# AdamP and AdamW on a small GPT

Made by `python -m bench study` from [study.json](../bench/results/study.json); do not edit.

## Question

AdamP was published for convolutions before a BatchNorm, whose weights are scale-invariant. A GPT
has no such weights, unless its queries and keys are normalised (QK-norm). Does AdamP train a small
GPT to a lower validation loss than AdamW when both are tuned, and which weights does it project?

With QK-norm the part of W_Q (and of W_K) that belongs to one head is scale-invariant: its gradient
is orthogonal to it, and so the gradient of the whole matrix is orthogonal to the matrix. A single
row is not scale-invariant. So AdamP's layer-wise test should find W_Q and W_K, its channel-wise
test should not."""


HEAD_WISE_IS = f"""\
 **{HEAD_WISE}**: `FusedAdamP` with W_Q and W_K always projected head by head (`"channel"`, the \
head being dimension 0), and all else never, at AdamW's values."""

CONTROL_IS = """
- **Control**: where AdamP's best point is another than AdamW's, AdamW was trained at AdamP's as \
well, so that the values are not taken for the optimizer. This was added when the first full \
trainings had been seen."""


def _setup(report: Report) -> str:
    s = {**report["settings"], **report["settings"]["plan"]}
    first, *others = s["seeds"]
    head_wise = HEAD_WISE_IS if summary.of(report, Arm(HEAD_WISE, True)) else ""
    extra = CONTROL_IS if report.get("controls") else ""
    if not summary.complete(report):
        extra += "\n- **Not finished**: some seeds are missing; the tables say how many there are."
    lists = [report.get(name, []) for name in ("grid", "trainings", "controls")]
    seconds = sum(entry["seconds"] for each in lists for entry in each)
    return f"""\
## Set-up

- **Text**: {s["data"]}. Loss: cross entropy in nats a character, on the whole held-out text.
- **Model**: GPT of {s["layers"]} layers, width {s["width"]}, {s["heads"]} heads, context \
{s["context"]}, {s["parameters"]:,} parameters (and the gains of QK-norm). LayerNorm before each \
half of a block, ReLU, no biases, a head of its own; Q, K and V are matrices of their own. QK-norm \
is an RMSNorm of each head's queries and keys.
- **Training**: batches of {s["batch"]} windows; linear warm-up over 5 % of the steps, then a \
cosine down to a tenth of the learning rate; betas (0.9, 0.999), eps 1e-8, no clipping, no \
dropout. Weight decay on matrices and embeddings, none on gains.
- **AdamW**: `torch.optim.AdamW`. **AdamP**: `FusedAdamP` with its defaults (`projection="auto"`, \
`delta=0.1`, `wd_ratio=0.1`).{head_wise} The optimizers of one seed \
start from the same weights and see the same batches.
- **Tuning**: every point of the grid below, seed {s["grid_seed"]}, {s["grid_steps"]:,} steps. A \
grid whose best point is on an edge grows there, {s["extensions"]} times at most. Then the best \
point of each with seeds {first} to {others[-1]}, {s["steps"]:,} steps.{extra}
- {markdown.machine(report["machine"])} All trainings together took {seconds / 60:.0f} minutes on \
one thread of a busy machine."""


def _loss(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.4f}"


def _grid(report: Report) -> str:
    arms = summary.arms(report, "grid")
    losses: dict[Arm, grid.Losses] = {arm: summary.grid_losses(report, arm) for arm in arms}
    best = {arm: grid.best(losses[arm]) for arm in arms}
    rows = []
    for lr, decay in sorted({point for each in losses.values() for point in each}):
        row = [f"{lr:g}, {decay:g}"]
        for arm in arms:
            point = lr, decay
            text = _loss(losses[arm][point]) if point in losses[arm] else "-"
            row.append(f"**{text}**" if point == best[arm] else text)
        rows.append(row)
    table = markdown.table(["lr, weight decay", *map(summary.label, arms)], rows)
    return "\n\n".join(["## Grid", table, _edges(report, losses), _same_point(losses)])


def _edges(report: Report, losses: dict[Arm, grid.Losses]) -> str:
    plan = report["settings"]["plan"]
    planned = len(plan["lrs"]) * len(plan["weight_decays"])
    grown = [summary.label(arm) for arm, each in losses.items() if len(each) > planned]
    on = {arm: grid.edges(each) for arm, each in losses.items()}
    told = [f"{summary.label(arm)} ({', '.join(names)})" for arm, names in on.items() if names]
    return " ".join(
        [
            "Validation loss, the best of a column in bold.",
            f"Grown beyond the planned {planned} points: {'; '.join(grown) or 'none'}.",
            f"On an edge in the end: {'; '.join(told)}." if told else "No best is on an edge.",
        ]
    )


def _same_point(losses: dict[Arm, grid.Losses]) -> str:
    sentences = []
    for qk_norm in (True, False):
        ours, theirs = losses[Arm(ADAMP, qk_norm)], losses[Arm(ADAMW, qk_norm)]
        pairs = [(ours[point], theirs[point]) for point in ours if point in theirs]
        gaps = [a - b for a, b in pairs if a is not None and b is not None]
        lower = sum(gap < 0 for gap in gaps)
        sentences.append(
            f"QK-norm {'on' if qk_norm else 'off'}: AdamP's loss is the lower one at {lower} of "
            f"{len(gaps)} shared points, the difference being {min(gaps):+.4f} to {max(gaps):+.4f}."
        )
    return "At the same values, one seed: " + " ".join(sentences)


def result_rows(report: Report) -> list[list[str]]:
    """The table of results: an arm, its tuned values, and its final validation loss."""
    rows = []
    for name, remark in (("trainings", ""), ("controls", summary.CONTROL)):
        for arm in summary.arms(report, name):
            setting = summary.of(report, arm, name)[0]["setting"]
            found = list(summary.final(report, arm, name).values())
            finished = [loss for loss in found if loss is not None]
            mean, sd = summary.mean_sd(finished)
            values = f"{setting['lr']:g}", f"{setting['weight_decay']:g}"
            count = f"{len(finished)} of {len(report['settings']['plan']['seeds'])}"
            title = summary.label(arm) + remark
            rows.append([title, *values, f"{mean:.4f} ± {sd:.4f}", count])
    return rows


def gap_rows(report: Report) -> list[list[str]]:
    """The table of differences to AdamW."""
    rows = []
    for name, gap in summary.comparisons(report).items():
        interval = f"{gap.low:+.4f} to {gap.high:+.4f}"
        below = f"{sum(d < 0 for d in gap.differences)} of {len(gap.differences)}"
        rows.append([name, f"{gap.mean:+.4f} ± {gap.sd:.4f}", interval, below])
    return rows


def _results(report: Report) -> str:
    header = ["", "lr", "weight decay", "validation loss, mean ± SD", "seeds finished"]
    gaps = ["difference, seed by seed", "mean ± SD", "95 % t interval of the mean", "seeds below 0"]
    return "\n\n".join(
        [
            "## Results",
            markdown.table(header, result_rows(report)),
            markdown.table(gaps, gap_rows(report)),
            f"![Validation loss and its difference to AdamW](images/{LOSS})",
        ]
    )


def _outcomes(report: Report) -> str:
    found = {qk: summary.outcome_counts(report, Arm(ADAMP, qk)) for qk in (True, False)}
    header = ["% of all steps, AdamP"]
    for qk in (True, False):
        header += [f"QK-norm {'on' if qk else 'off'}: channel", "layer", "none"]
    rows = []
    for kind in report_order(report):
        if kind not in found[True]:
            continue
        row = [kind]
        for qk in (True, False):
            none, channel, layer = found[qk][kind]
            row += [f"{100 * n / (none + channel + layer):.1f}" for n in (channel, layer, none)]
        rows.append(row)
    return "\n\n".join(
        [
            "## Outcomes of the test",
            "The outcome of each weight was read after each step of all seeds. Gains have one "
            "dimension and are never tested. A gradient in a random direction passes the "
            "layer-wise test about 8 times in 100, whatever the weight's size.",
            markdown.table(header, rows),
            f"![Outcomes of the projection test by layer type](images/{OUTCOMES})",
        ]
    )


def _norms(report: Report) -> str:
    columns = [(arm, "trainings", "") for arm in summary.arms(report)]
    columns += [(arm, "controls", summary.CONTROL) for arm in summary.arms(report, "controls")]
    found = [
        (summary.growth(report, arm, name), summary.final_norms(report, arm, name))
        for arm, name, _ in columns
    ]
    rows = []
    for kind in report_order(report):
        row = [kind]
        for growths, norms in found:
            if kind in norms:
                growth, norm = map(statistics.fmean, (growths[kind], norms[kind]))
                row.append(f"{norm:.2f} ({growth:.3f})")
            else:
                row.append("-")
        rows.append(row)
    titles = [summary.label(arm) + remark for arm, _, remark in columns]
    return "\n\n".join(
        [
            "## Norms",
            "Frobenius norm of all weights of a type at the end and, in parentheses, over the "
            "initial one; means over the seeds.",
            markdown.table(["final norm (growth)", *titles], rows),
        ]
    )


def _verdict(name: str, gap: summary.Gap) -> str:
    if gap.low <= 0 <= gap.high:
        return (
            f"- {name}: {gap.mean:+.4f}. The interval includes 0: these seeds do not tell the two "
            "apart."
        )
    side = "below" if gap.mean < 0 else "above"
    return f"- {name}: {gap.mean:+.4f}. The whole interval lies {side} 0."


def _caveats(report: Report) -> list[str]:
    """What an optimizer's own values do to a difference."""
    lines = []
    for arm, other in summary.PAIRS:
        if not (summary.of(report, arm) and summary.of(report, other)):
            continue
        ours, theirs = (summary.of(report, each)[0]["setting"] for each in (arm, other))
        values = [(s["lr"], s["weight_decay"]) for s in (ours, theirs)]
        if values[0] == values[1]:
            continue
        losses = summary.grid_losses(report, other)
        near = abs((losses[values[0]] or 0) - (losses[values[1]] or 0))
        line = (
            f"- {summary.label(arm)} has other values (lr {values[0][0]:g}, weight decay "
            f"{values[0][1]:g}) than {other.optimizer} (lr {values[1][0]:g}, weight decay "
            f"{values[1][1]:g}), so that their difference is that of values and optimizers. "
            f"In the grid {other.optimizer}'s loss differs by {near:.4f} between these points: the "
            "choice was a matter of chance, and short trainings do not show what decay does later."
        )
        controls = [loss for loss in summary.final(report, other, "controls").values() if loss]
        if len(controls) > 1:
            tuned = [loss for loss in summary.final(report, other).values() if loss]
            means = statistics.fmean(controls), statistics.fmean(tuned)
            line += (
                f" At AdamP's values {other.optimizer} comes to {means[0]:.4f} instead of "
                f"{means[1]:.4f}; the row{summary.CONTROL} compares like with like."
            )
        else:
            line += " It must not be read as the effect of the projection."
        lines.append(line)
    return lines


def _meaning(report: Report) -> str:
    on, off = (summary.outcome_counts(report, Arm(ADAMP, qk)) for qk in (True, False))

    def projected(counts: dict[str, list[int]], kinds: list[str]) -> str:
        total = [sum(counts[kind]) for kind in kinds]
        shares = [
            100 * (1 - counts[kind][0] / n) for kind, n in zip(kinds, total, strict=True) if n
        ]
        low, high = min(shares), max(shares)
        return f"{low:.1f} %" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f} %"

    qk = ["attention Q", "attention K"]
    others = [kind for kind in on if kind not in qk]
    s = {**report["settings"], **report["settings"]["plan"]}
    found = summary.comparisons(report).items()
    verdicts = "\n".join([*(_verdict(*named) for named in found), *_caveats(report)])
    return f"""\
## What it means, and what it does not

{verdicts}
- W_Q and W_K are projected in {projected(on, qk)} of the steps with QK-norm and in \
{projected(off, qk)} without. All other types: {projected(on, others)} with QK-norm, \
{projected(off, others)} without; none of those weights is scale-invariant, so no projection is \
called for. In a projected step the weight decay, too, is a tenth.

One model of {s["parameters"]:,} parameters, one text, {s["steps"]:,} steps, {len(s["seeds"])} \
seeds. The intervals say how seeds scatter at the tuned values; they leave out the choice of those \
values, which one seed of {s["grid_steps"]} steps made on the same held-out text, and are not \
adjusted for the number of comparisons. Losses with and without QK-norm are at different values \
and say nothing about QK-norm. Longer trainings, in which norms grow further, larger \
models and other weight decays may differ. Nothing here is about speed."""


def render(report: Report) -> str:
    """The whole page."""
    parts = (_setup, _grid, _results, _outcomes, _norms, _meaning)
    return "\n\n".join([QUESTION, *(part(report) for part in parts)]) + "\n"
