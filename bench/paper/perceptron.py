"""No harm: a perceptron without any normalisation, whose weights are not scale-invariant."""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional as F

from bench.paper import digits
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
    values,
)
from bench.paper.optimizers import TITLES, build

PAIRS = {"sgd": "sgdp", "adamw": "adamp"}
RATES = {"sgd": 0.1, "sgdp": 0.1, "adamw": 1e-3, "adamp": 1e-3}

HARM_MARK = -2.0


def perceptron(seed: int) -> nn.Sequential:
    """Two hidden layers."""
    torch.manual_seed(seed)
    hidden = [nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(128, 10))


def train(optimizer: str, seed: int, steps: int, backend: str) -> Record:
    """One training: test accuracy, and the share of matrices that are projected all the same."""
    images, labels, test_images, test_labels = digits.split()
    model = perceptron(seed)
    weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)]
    stepper = build(optimizer, model.parameters(), backend, RATES[optimizer])
    projected = 0
    for batch in digits.batches(len(images), steps, seed):
        stepper.zero_grad()
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        stepper.step()
        if optimizer in PAIRS.values():
            projected += sum(int(stepper.state[weight]["view"]) != 0 for weight in weights)
    return {
        "optimizer": optimizer,
        "seed": seed,
        "steps": steps,
        "projected": projected,
        "tested": steps * len(weights) if optimizer in PAIRS.values() else 0,
        "accuracy": digits.accuracy(model, test_images, test_labels),
    }


def cases(settings: Settings) -> list[Case]:
    """Every optimizer and seed."""
    steps = 150 if settings.quick else 400
    return [
        functools.partial(train, optimizer, seed, steps, settings.backend)
        for seed in settings.seeds
        for optimizer in RATES
    ]


def _apart(records: list[Record], plain: str) -> float:
    ours, theirs = (
        values(records, "accuracy", optimizer=optimizer) for optimizer in (PAIRS[plain], plain)
    )
    return deviations_apart(ours, theirs)


def gates(records: list[Record]) -> list[Gate]:
    """Accuracy of either pair, in standard deviations."""
    return [
        Gate(
            f"accuracy, {TITLES[ours]} less {TITLES[plain]}, in standard deviations",
            _apart(records, plain),
            ">",
            HARM_MARK,
        )
        for plain, ours in PAIRS.items()
    ]


def table(records: list[Record]) -> Table:
    """Every optimizer."""
    rows = [["", "test accuracy, %", "less the baseline, SD", "projected, %"]]
    for plain, ours in PAIRS.items():
        for optimizer in (plain, ours):
            sample = values(records, "accuracy", optimizer=optimizer)
            row = [TITLES[optimizer], mean_and_deviation(sample, 2, 100)]
            if optimizer == ours:
                projected = mean(records, "projected", optimizer=ours)
                share = projected / mean(records, "tested", optimizer=ours)
                row += [f"{_apart(records, plain):+.1f}", f"{100 * share:.2f}"]
            else:
                row += ["", "-"]
            rows.append(row)
    return rows


EXPERIMENT = Experiment(
    name="perceptron",
    title="No harm without normalisation",
    section="the method's threshold δ",
    statement="Weights that are not scale-invariant fail the test and are stepped as ever.",
    setup=(
        "a perceptron with two hidden layers and no normalisation on scikit-learn's digits; "
        f"learning rate {RATES['sgd']:g} (SGD) and {RATES['adamw']:g} (Adam)."
    ),
    mark="accuracy less than two standard deviations below the baseline's",
    cases=cases,
    gates=gates,
    table=table,
)
