"""An optimizer with made-up statistics, and runs of it."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adamp_fused.stats.records import as_line

NUMBERS = ("weight_norm", "grad_norm", "update_norm", "removed", "effective_lr", "angle", "growth")


def values(outcome: str = "channel", **changed: Any) -> dict[str, Any]:
    """Statistics of one parameter."""
    made: dict[str, Any] = {"outcome": outcome, "max_cosine": 0.01, "bound": 0.02}
    made["outcomes"] = {"none": 0, "channel": 0, "layer": 0} | {outcome: 3}
    return made | {name: 0.5 + i for i, name in enumerate(NUMBERS)} | changed


class WithStats(torch.optim.Optimizer):
    """SGD, which tells the same of each parameter, and counts how often it was asked."""

    def __init__(self, params: Any, refuses: bool = False) -> None:
        super().__init__(params, {"lr": 0.1})
        self.asked, self.stepped, self.refuses = 0, 0, refuses

    def step(self, closure: Any = None) -> None:
        """One step, counted."""
        self.stepped += 1
        with torch.no_grad():
            for param in self.param_groups[0]["params"]:
                param -= 0.1 * param.grad

    def stats(self) -> dict[str, dict[str, Any]]:
        """Growth tells the number of steps."""
        if self.refuses:
            raise RuntimeError("pass stats=True")
        self.asked += 1
        names = ["weight", "bias"] if self.stepped else []
        counts = {"none": 0, "channel": self.stepped, "layer": 0}
        return {n: values(growth=float(self.stepped), outcomes=counts) for n in names}


def model() -> nn.Module:
    """A network with one weight and one bias."""
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def train(optimizer: Any, network: nn.Module, steps: int) -> None:
    """Make steps on random inputs."""
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(5, 4).to(next(network.parameters()))).square().sum().backward()
        optimizer.step()


def write_run(path: Path, layers: int, steps: int = 3, optimizer: str = "FusedAdamP") -> Path:
    """A file of a run with weights and biases of many layers."""
    weights = [f"layer{i // 10}.{i % 10}.conv.weight" for i in range(layers)]
    shapes = {name: [8, 8] for name in weights} | {"bias": [8]}
    with path.open("w") as file:
        file.write(as_line({"format": 1, "optimizer": optimizer, "shapes": shapes}))
        for step in (1, *range(10, 10 * steps, 10)):
            stats = {
                name: values(("none", "channel", "layer")[i % 3], growth=1 + i * step / 50)
                for i, name in enumerate(shapes)
            }
            stats["bias"]["max_cosine"] = math.nan
            file.write(as_line({"step": step, "optimizer": optimizer, "stats": stats}))
    return path
