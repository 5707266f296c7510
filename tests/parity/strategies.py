"""What hypothesis draws the generated tests from: a whole training run in one plain value.

A `Case` prints as the expression that makes it, so that a failure can be pasted into a test.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from parity.layouts import LAYOUTS
from parity.oracle import CHANNEL, LAYER, NONE

MOST_ELEMENTS = 40_000  # a tensor: several tiles on every backend


@dataclass(frozen=True)
class Memory:
    """How a tensor lies in memory: a name of layouts.LAYOUTS, and elements behind alignment."""

    layout: str = "contiguous"
    shift: int = 0


@dataclass(frozen=True)
class Drawn:
    """One parameter.

    Attributes:
        shape: its sizes.
        dtype: name of its type in torch.
        group: index of its parameter group.
        memory: of the weights.
        grads: memory of the gradients, in turn.
        moments: memory of the state from the second step on; None leaves it as it was made.
        history: outcome that each step's gradient leads to; None where there is no gradient.
    """

    shape: tuple[int, ...]
    dtype: str
    group: int
    memory: Memory
    grads: tuple[Memory, ...]
    moments: Memory | None
    history: tuple[int | None, ...]


@dataclass(frozen=True)
class Case:
    """One run: options of each group, then the parameters in their order.

    Attributes:
        kind: AdamP or SGDP.
        groups: options; a group whose `tensor_lr` is true gets its lr as a tensor.
        tensors: the parameters.
        schedule: seed, blocks and resident blocks of an emulated device.
    """

    kind: str
    groups: tuple[dict[str, Any], ...]
    tensors: tuple[Drawn, ...]
    schedule: tuple[int, int, int]


# Twice what has the most ways to go: several tiles of whole rows, some updated too early.
KINDS_OF_SHAPES = (
    *("matrix", "filters", "row", "column", "long", "many"),
    *("blocks", "blocks", "vector", "scalar", "empty"),
)
# Lengths at which loops, vectors, blocks and tiles of some backend begin or end.
BOUNDARIES = (1, 4, 8, 16, 32, 64, 128, 320, 1024, 2048, 2560, 5120, 8192, 16_384)


def lengths(most: int) -> SearchStrategy[int]:
    """1 to most, often beside a boundary."""
    beside = [n + by for n in BOUNDARIES for by in (-1, 0, 1) if 1 <= n + by <= most]
    return st.one_of(st.integers(1, min(most, 9)), st.sampled_from(beside), st.integers(1, most))


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """Scalars, vectors, single rows and columns, long, short, many rows, filters, empty ones."""
    kind = draw(st.sampled_from(KINDS_OF_SHAPES))
    if kind == "scalar":
        return ()
    if kind == "vector":
        return (draw(lengths(MOST_ELEMENTS)),)
    if kind == "row":
        return (1, draw(lengths(MOST_ELEMENTS)))
    if kind == "column":
        return (draw(lengths(1_500)), 1)
    if kind == "many":
        return (draw(lengths(6_000)), draw(st.integers(2, 5)))
    if kind == "long":
        rows = draw(st.integers(1, 3))
        return (rows, draw(st.integers(8_000, MOST_ELEMENTS // rows)))
    if kind == "blocks":
        cols = draw(lengths(2_048))
        return (draw(st.integers(8_000 // cols + 1, MOST_ELEMENTS // cols)), cols)
    if kind == "filters":
        return tuple(draw(st.lists(st.integers(1, 9), min_size=3, max_size=5)))
    if kind == "empty":
        sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
        return tuple(sizes) if 0 in sizes else (*sizes, 0)
    rows = draw(lengths(300))
    return (rows, draw(lengths(MOST_ELEMENTS // rows)))


def memories(shape: tuple[int, ...]) -> SearchStrategy[Memory]:
    """Any layout that the shape can have, aligned or behind alignment."""
    names = [name for name in LAYOUTS if shape or name != "sliced"]
    return st.builds(Memory, st.sampled_from(names), st.just(0) | st.integers(1, 7))


def floats(least: float, most: float) -> SearchStrategy[float]:
    """Numbers that float32 holds, as a learning rate in a tensor has to."""
    return st.floats(least, most, width=32)


SHARED = {
    "weight_decay": st.just(0.0) | floats(2**-10, 0.125),
    "wd_ratio": floats(0, 1),
    # Below 0.02 the rounding of a gradient decides in 16 bits, above 0.5 the signs of noise do.
    "delta": st.just(0.0) | floats(0.03125, 0.5),
    "eps": st.sampled_from([1e-30, 1e-16, 1e-8, 1e-4, 1e-2, 1.0]),
    "nesterov": st.booleans(),
    "maximize": st.booleans(),
    "projection": st.sampled_from(["channel", "layer", "off"]),
}
# beta1 above the root of beta2 would make u as large as chance makes the latest gradient small.
BETAS = [
    (beta1, beta2)
    for beta1 in (0.0, 0.5, 0.9, 0.99)
    for beta2 in (0.0, 0.5, 0.9, 0.99, 0.999)
    if beta1**2 <= beta2
]
OPTIONS = {
    "AdamP": SHARED | {"betas": st.sampled_from(BETAS)},
    "SGDP": SHARED
    | {
        "momentum": floats(0, 0.9375),
        "dampening": floats(-0.5, 1),
        "project_buffer": st.booleans(),
    },
}


def groups(kind: str) -> SearchStrategy[dict[str, Any]]:
    """Options of a group: any of them, the others left to their defaults."""
    always = {"lr": st.just(0.0) | floats(2**-14, 0.5), "tensor_lr": st.booleans()}
    return st.fixed_dictionaries(always, optional=OPTIONS[kind])


def dtypes(kind: str, group: dict[str, Any]) -> SearchStrategy[str]:
    """Types of storage that hold what the options lead to."""
    names = ["float32", "float32", "float64", "bfloat16", "float16"]
    if kind == "AdamP" and group.get("eps", 0) < 1e-4:
        names.remove("float16")  # a second moment of 0, and u above the largest number
    return st.sampled_from(names)


OUTCOMES = st.sampled_from([*(NONE, CHANNEL, LAYER) * 2, None])


@st.composite
def tensors(draw: st.DrawFn, kind: str, options: list[dict[str, Any]], steps: int) -> Drawn:
    """One parameter of one of the groups."""
    shape, group = draw(shapes()), draw(st.integers(0, len(options) - 1))
    memory = memories(shape)
    return Drawn(
        shape,
        draw(dtypes(kind, options[group])),
        group,
        draw(memory),
        tuple(draw(st.lists(memory, min_size=1, max_size=2))),
        draw(st.none() | memory),
        tuple(draw(st.lists(OUTCOMES, min_size=steps, max_size=steps))),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A whole run."""
    kind = draw(st.sampled_from(["AdamP", "SGDP"]))
    options = draw(st.lists(groups(kind), min_size=1, max_size=3))
    steps, count = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    drawn = [draw(tensors(kind, options, steps)) for _ in range(count)]
    blocks = draw(st.integers(1, 4))
    schedule = (draw(st.integers(0, 2**32)), blocks, draw(st.integers(1, blocks)))
    return Case(kind, tuple(options), tuple(drawn), schedule)
