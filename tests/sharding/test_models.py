"""Models that torch shares out train as one process does."""

import pytest

from sharding import models
from sharding.test_equality import BACKENDS
from sharding.world import World


@pytest.mark.parametrize("how", models.HOW)
@pytest.mark.parametrize("backend_name", BACKENDS)
@pytest.mark.parametrize("kind_name", models.OPTIONS)
def test_as_in_one_process(world: World, kind_name: str, backend_name: str, how: str) -> None:
    """Weights after 20 steps, the last outcomes, and the collectives of a step."""
    for difference, wrong, collectives in world.run(models.compare, kind_name, how, backend_name):
        assert difference <= 1e-12
        assert wrong == 0
        assert collectives <= 2


def test_made_before(world: World) -> None:
    """An optimizer of parameters that FSDP2 has replaced would have nothing to do, for ever."""
    for said in world.run(models.made_before):
        assert "make the optimizer of the model's parameters after sharding it" in said


@pytest.mark.parametrize("grad_scaling", [False, True])
@pytest.mark.parametrize("kind_name", models.OPTIONS)
def test_grad_scaler(world: World, kind_name: str, grad_scaling: bool) -> None:
    """Where one process finds an infinity, all skip the step, and their scales stay the same."""
    found = world.run(models.scaled, kind_name, grad_scaling)
    for difference, scales in found:
        assert difference <= 1e-12
        assert scales == found[0][1]
    assert found[0][1][3] < found[0][1][2]


def test_compiled(world: World) -> None:
    """A compiled step comes to the bits of a plain one."""
    assert world.run(models.compiled) == [0.0] * 4


def test_nothing_else_travels(world: World) -> None:
    """No tensor is gathered: one all-reduce for each of the two process groups, and that is all."""
    for counts in world.run(models.communication):
        assert list(counts.values()) == [2]
        assert "all_reduce" in next(iter(counts)) or "allreduce" in next(iter(counts))
