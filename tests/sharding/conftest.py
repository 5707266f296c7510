"""The processes that the tests of this folder share."""

from collections.abc import Iterator

import pytest
import torch.distributed as dist

from sharding.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Processes joined by gloo."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("torch was built without gloo")
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.close()
