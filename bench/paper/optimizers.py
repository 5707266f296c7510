"""The four optimizers by name: this package's, and the baselines of torch."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from adamp_fused import FusedAdamP, FusedSGDP

TITLES = {"sgd": "SGD", "sgdp": "SGDP", "adamw": "AdamW", "adamp": "AdamP"}


def build(
    name: str,
    params: ParamsT,
    backend: str,
    lr: float,
    momentum: float = 0.9,
    **options: Any,
) -> Optimizer:
    """An optimizer, with its defaults but for these options.

    Args:
        name: one of :data:`TITLES`.
        params: as for any optimizer.
        backend: of this package's optimizers.
        lr: the learning rate.
        momentum: of SGD; ``beta1`` of Adam.
        options: what else the optimizer takes.
    """
    if name == "sgd":
        return torch.optim.SGD(params, lr=lr, momentum=momentum, **options)
    if name == "sgdp":
        return FusedSGDP(params, lr=lr, momentum=momentum, backend=backend, **options)
    # AdamW decays by 0.01 unless told otherwise, AdamP does not.
    betas = momentum, 0.999
    if name == "adamw":
        options.setdefault("weight_decay", 0.0)
        return torch.optim.AdamW(params, lr=lr, betas=betas, **options)
    if name == "adamp":
        return FusedAdamP(params, lr=lr, betas=betas, backend=backend, **options)
    raise ValueError(f"{name!r} is none of {', '.join(TITLES)}")
