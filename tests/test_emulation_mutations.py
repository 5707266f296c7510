"""Planted faults in the CUDA kernels: the emulation must notice each."""

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from emulation import build
from emulation.mutations import MUTATIONS, Mutation
from emulation.verdicts import caught

pytestmark = pytest.mark.skipif(
    shutil.which(build.compiler()) is None, reason=f"no C++ compiler ({build.compiler()})"
)


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[str]]]:
    """Verdicts on the faults that were selected, being found two at a time."""
    wanted = [
        item.callspec.params["mutation"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
    ]
    for variant in {build.RACES if m.all_types else build.RACES_FLOAT for m in wanted}:
        build.driver(variant)  # what all have in common

    # The threads' folders lie in it: the factory itself is not made for threads.
    parent: Path = tmp_path_factory.mktemp("mutated")

    def judge(mutation: Mutation) -> str:
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            return caught(mutation, Path(folder))

    with ThreadPoolExecutor(build.JOBS) as pool:
        yield {mutation.name: pool.submit(judge, mutation) for mutation in wanted}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_noticed(mutation: Mutation, verdicts: dict[str, "Future[str]"]) -> None:
    """Something is wrong, and it is said."""
    assert verdicts[mutation.name].result()
