"""Meshes, placements, shapes and options that nobody has thought of, drawn by hypothesis."""

from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.gradients import CHANNEL, LAYER, NONE
from parity.strategies import OPTIONS, floats
from sharding.runs import Case, Sharded
from sharding.test_equality import check
from sharding.world import World

MESHES = [(1,), (2,), (3,), (4,), (2, 2), (1, 3), (3, 1), (4, 1)]
#: Values that leave a step so well conditioned that its rounding stays below 1e-12.
MILD = {"eps": st.sampled_from([1e-8, 1e-4, 1e-2])}


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """Vectors to filters, small, empty, with many thin rows, or with rows of several tiles."""
    few = st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple)
    thin = st.tuples(st.integers(1, 400), st.integers(1, 20))
    long = st.tuples(st.integers(1, 3), st.integers(16_000, 40_000))
    return draw(st.one_of(few, few, thin, thin, long))


@st.composite
def members(draw: st.DrawFn, mesh: tuple[int, ...]) -> Sharded:
    """A parameter with any placements; each gradient alike, or partial where it is replicated."""
    shape = draw(shapes())
    if draw(st.integers(0, 9)) == 0:
        return Sharded(shape, None)
    dims = st.sampled_from(["R", *(f"S{dim}" for dim in range(len(shape)))])
    words = [draw(dims) for _ in mesh]
    if len(words) == 2 and words[0] == words[1] == "S0" and draw(st.booleans()):
        words[0] = "X0"
    grads = ["P" if w == "R" and draw(st.integers(0, 3)) == 0 else w for w in words]
    return Sharded(shape, tuple(words), tuple(grads))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A whole run of a few steps, sometimes clipped, scaled and skipped."""
    kind = draw(st.sampled_from(["AdamP", "SGDP"]))
    mesh = draw(st.sampled_from(MESHES))
    options = st.fixed_dictionaries({"lr": floats(2**-10, 0.0625)}, optional=OPTIONS[kind] | MILD)
    groups: list[tuple[dict[str, Any], tuple[Sharded, ...]]] = []
    for _ in range(draw(st.integers(1, 2))):
        own = draw(st.lists(members(mesh), min_size=1, max_size=4))
        groups.append((draw(options), tuple(own)))
    n = sum(len(own) for _, own in groups)
    script = tuple(draw(st.lists(st.sampled_from([NONE, CHANNEL, LAYER]), min_size=3, max_size=6)))
    missing = draw(st.frozensets(st.tuples(st.integers(0, 5), st.integers(0, n - 1)), max_size=4))
    scale = draw(st.none() | st.sampled_from([1.0, 1024.0]))
    # Processes that have no DTensor tell one another nothing.
    shares = any(member.words is not None for _, own in groups for member in own)
    finders = st.just(0 if shares else -1)
    infinite = {} if scale is None else draw(st.dictionaries(st.integers(0, 2), finders))
    clip = draw(st.none() | floats(0.5, 50))
    backend = draw(st.sampled_from(["cpu", "cpu", "reference"]))
    return Case(
        kind,
        backend,
        mesh,
        tuple(groups),
        script,
        seed=draw(st.integers(0, 2**16)),
        missing=missing,
        max_grad_norm=clip,
        grad_scale=scale,
        infinite=infinite,
    )


@settings(max_examples=settings.default.max_examples // 4)  # each takes a quarter of a second
@given(case=cases())
def test_run(world: World, case: Case) -> None:
    """Every value of every step equals the oracle's, and every process has the same outcomes."""
    check(world, case)
