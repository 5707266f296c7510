"""What several frameworks are trained on and compared by."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from parity.test_training import network, rings

OPTIONS = {"AdamP": {"lr": 3e-3, "weight_decay": 1e-2}, "SGDP": {"lr": 0.02, "weight_decay": 1e-4}}


def dataset() -> torch.utils.data.TensorDataset:
    """Six batches of 32 pictures, with the number of the ring that each shows."""
    return torch.utils.data.TensorDataset(*rings(192))


def net() -> nn.Module:
    """Convolutions before a BatchNorm, which are projected, and a classifier, which is not."""
    return network("cpu")


def values(module: nn.Module) -> list[Tensor]:
    """A copy of all weights and buffers."""
    return [value.detach().clone() for value in module.state_dict().values()]


def state(optimizer: Any) -> list[Tensor]:
    """A copy of the whole state, in the order of the parameters."""
    kept = optimizer.state_dict()["state"]
    return [kept[index][key].clone() for index in sorted(kept) for key in sorted(kept[index])]


def assert_same_bits(got: Iterable[Tensor], want: Iterable[Tensor]) -> None:
    """Demand equality, and that there is something to compare."""
    got, want = list(got), list(want)
    assert got
    torch.testing.assert_close(got, want, rtol=0, atol=0)
