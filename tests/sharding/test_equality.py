"""A sharded step equals the step of the whole tensors: weights, moments and outcomes."""

import dataclasses
from typing import Any

import pytest

from parity.gradients import SCRIPT
from sharding import runs
from sharding.runs import Case, Sharded
from sharding.world import World

#: `make proofs` runs the slow one.
BACKENDS = ["cpu", pytest.param("reference", marks=pytest.mark.proof)]
KINDS: dict[str, dict[str, Any]] = {
    "AdamP": {"lr": 0.01, "weight_decay": 0.1},
    "SGDP": {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9},
}
#: Rows that divide evenly, unevenly, fewer rows than processes, thin ones, rows of several tiles, a
#: convolution, a vector.
SHAPES = ((8, 12), (7, 30), (2, 40), (50, 3), (3, 20_000), (6, 4, 3, 3), (13,))
#: Name, mesh, and the placements of matrices and of vectors.
LAYOUTS = {
    "rows on 2": ((2,), ("S0",), ("S0",)),
    "rows on 3": ((3,), ("S0",), ("S0",)),
    "rows on 4": ((4,), ("S0",), ("S0",)),
    "columns on 2": ((2,), ("S1",), ("R",)),
    "columns on 3": ((3,), ("S1",), ("S0",)),
    "replicated": ((2,), ("R",), ("R",)),
    "HSDP": ((2, 2), ("R", "S0"), ("R", "S0")),
    "rows, then rows": ((2, 2), ("S0", "S0"), ("S0", "R")),
    "FSDP2 behind column-wise TP": ((2, 2), ("X0", "S0"), ("X0", "S0")),
    "FSDP2 behind row-wise TP": ((2, 2), ("S0", "S1"), ("S0", "R")),
    "rows behind columns": ((2, 2), ("S1", "S0"), ("R", "S0")),
    "columns, then columns": ((2, 2), ("S1", "S1"), ("R", "R")),
}


def case(kind: str, backend: str, layout: str, **options: Any) -> Case:
    """All shapes in one layout, and a plain tensor beside them."""
    mesh, words, of_vectors = LAYOUTS[layout]
    members = [
        Sharded(shape, words if len(shape) > 1 else of_vectors)
        for shape in SHAPES
        if backend != "triton" or shape != (3, 20_000)
    ]
    script = SCRIPT[:7] if backend == "triton" else SCRIPT
    groups = (({}, (*members, Sharded((5, 6), None))),)
    return Case(kind, backend, mesh, groups, script, options={**KINDS[kind], **options})


def check(world: World, tested: Case) -> list[runs.Found]:
    """Run a case; the acceptance limits."""
    found = [one for one in world.run(runs.run, tested) if one is not None]
    for one in found:
        assert one.wrong_views == 0
        assert one.error <= 1e-12
        assert one.collectives[0] <= (3 if tested.stats else 2)
        assert one.stats_error <= 1e-7  # angles of weights after many steps
        assert one.norm_error <= 1e-12
        assert one.skipped == 0
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend_name", BACKENDS)
@pytest.mark.parametrize("kind_name", KINDS)
def test_layouts(world: World, kind_name: str, backend_name: str, layout: str) -> None:
    """20 steps through all outcomes, each following each."""
    found = check(world, case(kind_name, backend_name, layout))
    assert all(one.outcomes[outcome] > 0 for one in found for outcome in (0, 1, 2))


OPTIONS: dict[str, dict[str, Any]] = {
    "nesterov": {"nesterov": True},
    "maximize": {"maximize": True},
    "channel": {"projection": "channel"},
    "layer": {"projection": "layer"},
    "off": {"projection": "off"},
    "delta, wd_ratio": {"delta": 0.3, "wd_ratio": 0.7},
    "eps": {"eps": 1e-2},
    "capturable": {"capturable": True},
    "channel, nesterov": {"projection": "channel", "nesterov": True},
    "no learning": {"lr": 0.0},
}
OWN: dict[str, dict[str, dict[str, Any]]] = {
    "AdamP": {"betas": {"betas": (0.5, 0.9)}},
    "SGDP": {
        "buffer left": {"project_buffer": False},
        "dampening": {"dampening": 0.3},
        "no momentum": {"momentum": 0.0},
    },
}


def mixed(kind: str, backend: str, **options: Any) -> Case:
    """Rows split over either dimension of a mesh, in one optimizer: no order suits both."""
    both: tuple[tuple[str, ...], ...] = (("S0", "S1"), ("S1", "S0"), ("X0", "S0"), ("R", "S1"))
    shapes = ((8, 12), (7, 30), (50, 3), (6, 4, 3, 3))
    members = tuple(Sharded(shape, words) for shape in shapes for words in both)
    groups = ((options, (*members, Sharded((13,), ("S0", "R")), Sharded((5, 6), None))),)
    return Case(kind, backend, (2, 2), groups, SCRIPT, options=KINDS[kind])


@pytest.mark.parametrize("options", OPTIONS | OWN["AdamP"])
@pytest.mark.parametrize("backend_name", BACKENDS)
def test_options_of_adamp(world: World, backend_name: str, options: str) -> None:
    """Each option, where rows are whole, split, and both."""
    check(world, mixed("AdamP", backend_name, **(OPTIONS | OWN["AdamP"])[options]))


@pytest.mark.parametrize("options", OPTIONS | OWN["SGDP"])
@pytest.mark.parametrize("backend_name", BACKENDS)
def test_options_of_sgdp(world: World, backend_name: str, options: str) -> None:
    """Each option, where rows are whole, split, and both."""
    check(world, mixed("SGDP", backend_name, **(OPTIONS | OWN["SGDP"])[options]))


@pytest.mark.parametrize("backend_name", BACKENDS)
@pytest.mark.parametrize("kind_name", KINDS)
def test_clipped_and_scaled(world: World, kind_name: str, backend_name: str) -> None:
    """The norm is that of whole tensors, and where one process finds an infinity all skip."""
    tested = dataclasses.replace(
        mixed(kind_name, backend_name), max_grad_norm=3.0, grad_scale=1024.0, infinite={2: 3, 7: 0}
    )
    check(world, tested)


@pytest.mark.parametrize("backend_name", BACKENDS)
def test_partial_gradients(world: World, backend_name: str) -> None:
    """A gradient of which each process has a summand is added up first."""
    members = (
        Sharded((8, 12), ("R", "S0"), ("P", "S0")),
        Sharded((7, 5), ("R", "R"), ("P", "P")),
        Sharded((6, 4), ("S0", "S1"), ("R", "R")),
        Sharded((9,), ("R", "R"), ("R", "P")),
    )
    check(world, Case("AdamP", backend_name, (2, 2), (({}, members),), SCRIPT))


@pytest.mark.parametrize("backend_name", BACKENDS)
def test_missing_gradients(world: World, backend_name: str) -> None:
    """Parameters without a gradient in some steps, and steps without any."""
    tested = case("AdamP", backend_name, "rows on 3")
    n = len(tested.groups[0][1])
    missing = {(step, i) for step in range(len(SCRIPT)) for i in range(n) if (step + i) % 3 == 0}
    missing |= {(0, i) for i in range(n)} | {(5, i) for i in range(n)}
    check(world, dataclasses.replace(tested, missing=frozenset(missing)))


@pytest.mark.parametrize("projection", ["auto", "channel", "layer", "off"])
@pytest.mark.parametrize("backend_name", ["cpu", "reference"])
@pytest.mark.parametrize("kind_name", KINDS)
def test_stats(world: World, kind_name: str, backend_name: str, projection: str) -> None:
    """Statistics are those of the whole tensors, in all processes."""
    tested = mixed(kind_name, backend_name, projection=projection)
    check(world, dataclasses.replace(tested, script=SCRIPT[:7], stats=True))
    if projection == "auto":
        scaled = {"max_grad_norm": 3.0, "grad_scale": 1024.0, "infinite": {2: 3}}
        check(world, dataclasses.replace(tested, script=SCRIPT[:7], stats=True, **scaled))


@pytest.mark.parametrize("layout", ["rows on 3", "columns on 3", "FSDP2 behind row-wise TP"])
@pytest.mark.parametrize("backend_name", ["triton", "emulated"])
@pytest.mark.parametrize("kind_name", KINDS)
def test_kernels_of_a_gpu(world: World, kind_name: str, backend_name: str, layout: str) -> None:
    """The kernels of a GPU, in Triton's interpreter and in the emulation."""
    check(world, case(kind_name, backend_name, layout))


@pytest.mark.parametrize("kind_name", KINDS)
def test_several_meshes(world: World, kind_name: str) -> None:
    """Tensors of two meshes in one optimizer, clipped, scaled and skipped together."""
    tested = mixed(kind_name, "cpu")
    options, members = tested.groups[0]
    line = (Sharded((9, 7), ("S0",), mesh=(4,)), Sharded((6, 30), ("S1",), mesh=(4,)))
    groups = ((options, (*members, *line, Sharded((5,), ("S0",), mesh=(4,)))),)
    both = dataclasses.replace(tested, groups=groups)
    check(world, both)
    check(
        world,
        dataclasses.replace(both, max_grad_norm=3.0, grad_scale=1024.0, infinite={2: 3, 7: 0}),
    )
