"""Models that torch shares out train as one process does."""

import pytest

from sharding import models
from sharding.world import World


@pytest.mark.parametrize("how", models.HOW)
@pytest.mark.parametrize("backend_name", ["cpu", "reference"])
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
