"""Training of the BatchNorm network on digits, which several experiments share."""

from __future__ import annotations

import math

from torch.nn import functional as F

from bench.paper import digits
from bench.paper.experiment import Record
from bench.paper.optimizers import build
from bench.paper.watch import EffectiveSteps, norm


def train(
    optimizer: str,
    lr: float,
    momentum: float,
    weight_decay: float,
    seed: int,
    steps: int,
    backend: str,
    cosine: bool = False,
) -> Record:
    """Norms, effective steps, share of projected weights and test accuracy of one training.

    ``cosine``: the learning rate falls to 0 along half a cosine; else it stays.
    """
    images, labels, test_images, test_labels = digits.split()
    model = digits.bn_network(seed)
    weights = digits.convolutions(model)
    options = {"weight_decay": weight_decay}
    stepper = build(optimizer, model.parameters(), backend, lr, momentum, **options)
    first, watched, projected = norm(weights), EffectiveSteps(weights), 0
    for step, batch in enumerate(digits.batches(len(images), steps, seed)):
        for group in stepper.param_groups:
            group["lr"] = lr * (0.5 + 0.5 * math.cos(math.pi * step / steps) if cosine else 1.0)
        stepper.zero_grad()
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        watched.before(step)
        stepper.step()
        watched.after()
        if optimizer in ("sgdp", "adamp"):
            projected += sum(int(stepper.state[weight]["view"]) == 1 for weight in weights)
    last = norm(weights)
    return {
        "optimizer": optimizer,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "lr": lr,
        "seed": seed,
        "steps": steps,
        "first_norm": first,
        "last_norm": last,
        "growth": last / first - 1,
        "effective_step": watched.mean,
        "projected_share": projected / (steps * len(weights)),
        "accuracy": digits.accuracy(model, test_images, test_labels),
    }
