"""All experiments, in the order of the page."""

from __future__ import annotations

from bench.paper import (
    adversarial,
    figure1,
    growth,
    language,
    lemmas,
    overhead,
    perceptron,
    retrieval,
    rosenbrock,
    weight_decay,
)

EXPERIMENTS = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        lemmas,
        figure1,
        rosenbrock,
        growth,
        weight_decay,
        adversarial,
        retrieval,
        language,
        perceptron,
        overhead,
    )
}
