"""Table 5: a language model, with and without weight normalisation."""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from bench.lib.task_text import Text
from bench.paper.experiment import (
    Case,
    Experiment,
    Gate,
    Record,
    Settings,
    Table,
    deviations_apart,
    mean,
    mean_and_deviation,
    select,
    values,
)
from bench.paper.optimizers import TITLES, build
from bench.paper.watch import norm

LR, WARM_UP = 1e-3, 20
WIDTH, LAYERS = 64, 2
OPTIMIZERS = ("adamw", "adamp")

PLAIN_MARK, NORMALISED_MARK = 2.0, 0.0


def train(optimizer: str, normalised: bool, seed: int, steps: int, backend: str) -> Record:
    """One training: loss on the held-out text, and the share of projected matrices."""
    text = Text(torch.device("cpu"), steps, seed, WIDTH, LAYERS)
    model = text.model()
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    if normalised:
        for layer in linear:
            weight_norm(layer)
    # Of a normalised layer the direction, whose scale does not matter.
    name = "parametrizations.weight.original1" if normalised else "weight"
    weights = [layer.get_parameter(name) for layer in linear]
    stepper = build(optimizer, model.parameters(), backend, LR)
    first, projected = norm(weights), 0
    for step in range(steps):
        for group in stepper.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / WARM_UP, (steps - step) / (steps / 4))
        stepper.zero_grad()
        text.loss(model, step).backward()  # type: ignore[no-untyped-call]
        stepper.step()
        if optimizer == "adamp":
            projected += sum(int(stepper.state[weight]["view"]) != 0 for weight in weights)
    model.eval()
    with torch.no_grad():
        loss = text.evaluate(model)
    return {
        "optimizer": optimizer,
        "normalised": normalised,
        "seed": seed,
        "steps": steps,
        "loss": loss,
        "growth": norm(weights) / first - 1,
        "projected_share": projected / (steps * len(weights)),
    }


def cases(settings: Settings) -> list[Case]:
    """Both optimizers, both models and every seed."""
    steps = 60 if settings.quick else 200
    return [
        functools.partial(train, optimizer, normalised, seed, steps, settings.backend)
        for seed in settings.seeds
        for normalised in (False, True)
        for optimizer in OPTIMIZERS
    ]


def _apart(records: list[Record], normalised: bool) -> float:
    """AdamW's loss less AdamP's, in standard deviations."""
    adamw, adamp = (
        values(records, "loss", optimizer=optimizer, normalised=normalised)
        for optimizer in OPTIMIZERS
    )
    return deviations_apart(adamw, adamp)


def _same_seed(records: list[Record], normalised: bool) -> list[float]:
    """AdamW's loss less AdamP's of each seed: the same batches from the same weights."""
    adamw, adamp = (
        {r["seed"]: r["loss"] for r in select(records, optimizer=each, normalised=normalised)}
        for each in OPTIMIZERS
    )
    return [adamw[seed] - adamp[seed] for seed in adamw]


def gates(records: list[Record]) -> list[Gate]:
    """Gap of the plain model, and of the normalised one."""
    difference = mean(records, "loss", optimizer="adamw", normalised=True)
    difference -= mean(records, "loss", optimizer="adamp", normalised=True)
    what = "plain model: AdamW and AdamP apart, in standard deviations"
    return [
        Gate(what, abs(_apart(records, False)), "<", PLAIN_MARK),
        Gate("weight-normalised: loss, AdamW less AdamP", difference, ">", NORMALISED_MARK),
    ]


def table(records: list[Record]) -> Table:
    """Each model and optimizer."""
    header = ["", "validation loss", "AdamW less AdamP, SD", "by seed", "norm growth, %"]
    rows = [[*header, "projected, %"]]
    for normalised in (False, True):
        for optimizer in OPTIMIZERS:
            case = {"optimizer": optimizer, "normalised": normalised}
            is_ours = optimizer == "adamp"
            model = "weight-normalised" if normalised else "plain"
            share = 100 * mean(records, "projected_share", **case)
            rows.append(
                [
                    f"{model}, {TITLES[optimizer]}",
                    mean_and_deviation(values(records, "loss", **case), 4),
                    f"{_apart(records, normalised):+.1f}" if is_ours else "",
                    mean_and_deviation(_same_seed(records, normalised), 4) if is_ours else "",
                    mean_and_deviation(values(records, "growth", **case), 1, 100),
                    f"{share:.1f}" if is_ours else "-",
                ]
            )
    return rows


EXPERIMENT = Experiment(
    name="language",
    title="A language model, with and without weight normalisation",
    section="table 5",
    statement=(
        "A Transformer has few scale-invariant weights, and AdamP changes little; with weight "
        "normalisation it has many, and AdamP is better (WikiText-103, perplexity of AdamW and "
        "AdamP: 23.38 and 23.26, with weight normalisation 23.96 and 22.77)."
    ),
    setup=(
        f"a GPT of {LAYERS} blocks of width {WIDTH} on the text of CPython's "
        f"`pydoc_data.topics`, byte by byte; learning rate {LR:g}, no weight decay. With weight "
        "normalisation, direction and length of every row of a linear layer are parameters."
    ),
    mark=(
        "plain: losses less than two standard deviations apart; with weight normalisation: "
        "AdamP's mean loss below AdamW's"
    ),
    cases=cases,
    gates=gates,
    table=table,
    picture=("paper-language.png", "Validation losses of all trainings"),
)
