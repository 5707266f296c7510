"""Statistics as scalars: tags, values, and the writer of torch where TensorBoard is installed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adamp_fused import FusedAdamP, FusedSGDP
from adamp_fused.stats.tensorboard import add_to
from messages import message
from stats.fakes import NUMBERS, values


class Writer:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.scalars: dict[str, tuple[float, int]] = {}

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """As of torch."""
        assert tag not in self.scalars
        self.scalars[tag] = (scalar_value, global_step)


def test_tags_and_values() -> None:
    """One scalar for each quantity and parameter."""
    writer = Writer()
    add_to({"layer1.weight": values("layer"), "group 0, parameter 3": values()}, writer, 20)
    assert writer.scalars["adamp/outcome/layer1.weight"] == (2.0, 20)
    assert writer.scalars["adamp/margin/layer1.weight"] == (pytest.approx(0.5), 20)
    assert writer.scalars["adamp/outcome/group_0_parameter_3"] == (1.0, 20)
    for i, name in enumerate(NUMBERS):
        assert writer.scalars[f"adamp/{name}/layer1.weight"] == (0.5 + i, 20)
    assert len(writer.scalars) == 2 * (2 + len(NUMBERS))


@pytest.mark.parametrize("cls", [FusedAdamP, FusedSGDP])
def test_method_of_the_optimizer(cls: Any) -> None:
    """What an optimizer has collected, under its parameters' names."""
    p = nn.Parameter(torch.ones(3, 4))
    optimizer = cls([("w", p)], lr=0.1, stats=True)
    p.grad = torch.randn(3, 4)
    optimizer.step()
    writer = Writer()
    optimizer.add_to(writer, 7)
    found = optimizer.stats()["w"]
    assert writer.scalars["adamp/effective_lr/w"] == (found["effective_lr"], 7)
    assert writer.scalars["adamp/margin/w"][0] == found["max_cosine"] / found["bound"]


def test_error() -> None:
    """What is no writer is named."""
    assert "add_scalar" in message(lambda: add_to({}, 3, 1))  # type: ignore[arg-type]


def test_torch_writer(tmp_path: Path) -> None:
    """The writer of torch takes the tags as they are."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        add_to({"group 0, parameter 3": values()}, writer, 1)
    assert list(tmp_path.iterdir())
