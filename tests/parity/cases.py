"""What the tests are run on: named shapes and options, each declared once."""

import zlib
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Shape:
    """A parameter shape and why it is tried."""

    name: str
    shape: tuple[int, ...]
    why: str

    @property
    def numel(self) -> int:
        """Number of elements."""
        return torch.Size(self.shape).numel()

    @property
    def seed(self) -> int:
        """A seed that does not depend on the order of the list."""
        return zlib.crc32(self.name.encode())


SHAPES = (
    Shape("scalar", (), "no dimension, so no rows"),
    Shape("empty", (0,), "nothing to do"),
    Shape("no_rows", (0, 7), "two dimensions and no rows"),
    Shape("empty_rows", (5, 0, 3), "rows without elements: no division by the row length"),
    Shape("one", (1,), "the smallest vector"),
    Shape("bias", (64,), "a vector of a round length is not projected"),
    Shape("prime_vector", (1009,), "a vector whose length nothing divides"),
    Shape("long_vector", (16_385,), "a vector of two tiles and one element"),
    Shape("one_by_one", (1, 1), "always along its weight: outcome none"),
    Shape("single_row", (1, 257), "both views coincide"),
    Shape("long_row", (1, 8193), "both views coincide in a row longer than a tile"),
    Shape("column", (131, 1), "cosine 1 in every row: only the layer view can pass"),
    Shape("two_by_two", (2, 2), "the smallest that reaches every outcome"),
    Shape("odd", (7, 13), "nothing is a multiple of a vector"),
    Shape("below_vector", (5, 7), "one element less than eight lanes"),
    Shape("vector", (5, 8), "exactly eight lanes"),
    Shape("above_vector", (5, 9), "one element more than eight lanes"),
    Shape("below_unrolled", (3, 63), "one less than an unrolled loop"),
    Shape("above_unrolled", (3, 65), "one more than an unrolled loop"),
    Shape("short_rows", (1000, 3), "many rows in one block"),
    Shape("many_rows", (5003, 2), "more rows than blocks, a prime number of them"),
    Shape("linear", (96, 64), "an ordinary layer"),
    Shape("conv", (32, 16, 3, 3), "an ordinary convolution"),
    Shape("depthwise", (40, 1, 3, 3), "a dimension of size 1, whose stride means nothing"),
    Shape("five_dims", (3, 4, 5, 2, 7), "more dimensions than usual"),
    Shape("below_tile", (2, 8191), "rows one short of a tile"),
    Shape("tile", (2, 8192), "rows of exactly one tile"),
    Shape("above_tile", (2, 8193), "rows one over a tile"),
    Shape("below_two_tiles", (3, 5461), "16383 elements"),
    Shape("two_tiles", (128, 128), "16384 elements"),
    Shape("above_two_tiles", (5, 3277), "16385 elements"),
    Shape(
        "several_blocks",
        (1031, 67),
        "blocks of whole rows: some are updated before others fail",
    ),
    Shape("longer_than_blocks", (3, 70_001), "rows that span several blocks and start unaligned"),
)

# Rows of a few elements: the CPU kernel tests and projects many of them at a time, in tensors of
# several tiles under a prediction.
THIN = (
    Shape("thin_1", (20_011, 1), "each row is one lane; only a zero gradient passes"),
    Shape("thin_2", (10_007, 2), "sums of pairs"),
    Shape("thin_3", (6_007, 3), "an odd row: a sum of two and one more"),
    Shape("thin_4", (5_003, 4), "sums of pairs of pairs"),
    Shape("thin_7", (3_001, 7), "one more at each doubling"),
    Shape("thin_8", (2_503, 8), "the longest rows that wait under a channel prediction"),
    Shape("thin_9", (2_003, 9), "the shortest that do not: a 3x3 depthwise convolution"),
    Shape("thin_15", (1_201, 15), "the longest thin rows"),
    Shape("thin_16", (1_103, 16), "the shortest rows that are not thin"),
    Shape("small_thin_1", (70, 1), "one tile of rows of one element"),
    Shape("small_thin_3", (1000, 3), "one tile: a depthwise convolution of three taps"),
    Shape("small_thin_15", (5, 15), "fewer rows than are taken at once"),
)

# One of each kind, for tests that vary something other than the shape.
FEW = ("bias", "single_row", "column", "odd", "short_rows", "conv", "several_blocks", "above_tile")
SMALL = ("bias", "column", "odd", "two_by_two", "depthwise")


def shapes(*names: str) -> tuple[Shape, ...]:
    """Look shapes up by name."""
    by_name = {shape.name: shape for shape in SHAPES}
    return tuple(by_name[name] for name in names)


# An option at a time, or two that act on each other, against the defaults.
DECAY = {"weight_decay": 0.1}
SHARED_OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "weight_decay": DECAY,
    "wd_ratio_0": {**DECAY, "wd_ratio": 0.0},
    "wd_ratio_1": {**DECAY, "wd_ratio": 1.0},
    "delta_0": {**DECAY, "delta": 0.0},
    "delta_tight": {**DECAY, "delta": 0.02},
    "delta_loose": {**DECAY, "delta": 0.4},
    "eps_large": {**DECAY, "eps": 1e-2},
    "eps_tiny": {**DECAY, "eps": 1e-30},
    "lr_large": {**DECAY, "lr": 0.5},
    "lr_0": {**DECAY, "lr": 0.0},
    "maximize": {**DECAY, "maximize": True},
    "off": {**DECAY, "projection": "off"},
    "channel": {**DECAY, "projection": "channel"},
    "layer": {**DECAY, "projection": "layer"},
}
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "AdamP": {
        **SHARED_OPTIONS,
        "nesterov": {**DECAY, "nesterov": True},
        "nesterov_maximize": {**DECAY, "nesterov": True, "maximize": True},
        "nesterov_channel": {**DECAY, "nesterov": True, "projection": "channel"},
        "betas": {**DECAY, "betas": (0.5, 0.7)},
        "betas_0": {**DECAY, "betas": (0.0, 0.0)},
    },
    "SGDP": {
        "momentum_0": {**DECAY, "momentum": 0},
        **{name: {"momentum": 0.9, **options} for name, options in SHARED_OPTIONS.items()},
        "dampening": {**DECAY, "momentum": 0.9, "dampening": 0.3},
        "nesterov": {**DECAY, "momentum": 0.9, "nesterov": True},
        "nesterov_maximize": {**DECAY, "momentum": 0.9, "nesterov": True, "maximize": True},
        "nesterov_layer": {**DECAY, "momentum": 0.9, "nesterov": True, "projection": "layer"},
        "paper": {"momentum": 0.9, "project_buffer": False},
    },
}
STATE_KEYS = {"AdamP": ("exp_avg", "exp_avg_sq"), "SGDP": ("momentum",)}
