"""Distributed checkpoints, saved on one number of processes and loaded on another."""

from pathlib import Path

import pytest
import torch

from sharding import checkpoints, models
from sharding.world import World


@pytest.mark.parametrize(
    "dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.proof)], ids=str
)
@pytest.mark.parametrize("how", ["nested", "flattened", "flattened, state made before"])
@pytest.mark.parametrize("kind_name", models.OPTIONS)
def test_reshuffled(
    world: World, tmp_path: Path, kind_name: str, how: str, dtype: torch.dtype
) -> None:
    """From 4 processes to 2 and back nothing changes, to the bit, nor in the steps that follow."""
    flat, init = how != "nested", how.endswith("before")
    found = world.run(checkpoints.reshuffle, kind_name, str(tmp_path), flat, init, dtype)
    # Two processes add up gradients and sums in another order.
    bound = 1e-12 if dtype == torch.float64 else 1e-5
    for result in found:
        assert set(result["moved"].values()) == {0.0}
        assert all(by <= (0 if k == "view" else bound) for k, by in result["stepped"].items())
    assert found[0]["stepped"]


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flattened"])
@pytest.mark.parametrize("kind_name", models.OPTIONS)
def test_to_plain_parameters(world: World, tmp_path: Path, kind_name: str, flat: bool) -> None:
    """What was sharded is loaded into plain parameters."""
    for result in world.run(checkpoints.to_plain, kind_name, str(tmp_path), flat):
        assert set(result.values()) == {0.0}
