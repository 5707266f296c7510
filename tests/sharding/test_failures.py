"""What cannot be stepped is refused in every process, and none waits for ever."""

import re

import pytest

from parity.gradients import SCRIPT
from sharding import failures, runs
from sharding.runs import Case, Sharded
from sharding.world import World

BACKENDS = ["cpu", "reference"]


@pytest.mark.parametrize("backend_name", BACKENDS)
@pytest.mark.parametrize("whole_process", [False, True])
def test_one_process_without_gradient(world: World, backend_name: str, whole_process: bool) -> None:
    """All processes say which parameter it is, and can go on."""
    found = world.run(failures.one_without_gradient, backend_name, whole_process)
    name = "parameter 0 of group 0, parameter 1" if whole_process else "parameter 1"
    for said, next_step in found:
        assert re.match(rf"RuntimeError: {name} of group 0: some processes have a gradient", said)
        assert "checkpoint" in said
        assert next_step == ""


@pytest.mark.parametrize("backend_name", BACKENDS)
def test_collective_fails_before_the_step(world: World, backend_name: str) -> None:
    """The first of a clipped step: nothing has changed, and the message says so."""
    for said, same, next_step in world.run(failures.broken_collective, backend_name, 1):
        assert re.match(r"RuntimeError: .*network is down.*neither weights nor state have", said)
        assert same
        assert next_step == ""


@pytest.mark.parametrize("backend_name", BACKENDS)
def test_collective_fails_within_the_step(world: World, backend_name: str) -> None:
    """The second: the step is half made, and the message says so."""
    for said, same, next_step in world.run(failures.broken_collective, backend_name, 2):
        assert re.match(r"RuntimeError: .*network is down.*moments have moved.*checkpoint", said)
        assert not same
        assert next_step == ""


@pytest.mark.parametrize("backend_name", BACKENDS)
@pytest.mark.parametrize("what", failures.BAD)
def test_bad_state(world: World, backend_name: str, what: str) -> None:
    """State that is shared out otherwise: refused before anything has changed."""
    for said, same in world.run(failures.refused, backend_name, what):
        assert re.match(r"\w+Error: the state 'exp_avg' of parameter 0 of group 0 .*: ", said)
        assert same


def test_partial_parameter(world: World) -> None:
    """A parameter has one value, not summands."""
    for said in world.run(failures.partial_parameter):
        assert re.match(r"TypeError: parameter 0 .*Partial.*redistribute", said)


def test_dtensor_gradient(world: World) -> None:
    """A gradient that is a DTensor belongs to a parameter that is one."""
    for said in world.run(failures.plain_with_dtensor_gradient):
        assert re.match(r"\w+Error: ", said)
        assert "DTensor" in said


@pytest.mark.parametrize("words", [("S0",), ("S1",)])
def test_numbers_that_travel(world: World, words: tuple[str, ...]) -> None:
    """Six a tensor, and four a row where rows are split: whatever the number of elements."""
    for cols in (8, 800):
        members = (Sharded((12, cols), words), Sharded((10, cols), words), Sharded((9,), ("S0",)))
        tested = Case("AdamP", "cpu", (2,), (({}, members),), SCRIPT[:2])
        for one in world.run(runs.run, tested):
            if one is not None:
                assert one.numbers == 2 * 6 + (4 * 22 if words == ("S1",) else 0)
                assert one.collectives == (1, 1)
