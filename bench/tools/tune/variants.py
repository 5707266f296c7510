"""The variants of the CUDA step to time: other values of the macros in ``csrc/cuda/tuning.h``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Variant:
    """Values of macros, and the question that they answer."""

    name: str
    why: str
    macros: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def flags(self) -> list[str]:
        """Options of the compiler."""
        return [f"-D{name}={value}" for name, value in self.macros.items()]


def _prefetch(why: str, adamp: int, sgdp: int) -> Variant:
    macros = {"ADAMP_PREFETCH_EIGHTHS_ADAMP": adamp, "ADAMP_PREFETCH_EIGHTHS_SGDP": sgdp}
    return Variant(f"prefetch {adamp}/8, {sgdp}/8", why, macros)


def _blocks(why: str, workers: int, blocks: int, elements: int) -> Variant:
    macros = {
        "ADAMP_CONSUMERS_FLOAT32": workers,
        "ADAMP_BLOCKS_PER_SM": blocks,
        "ADAMP_TILE_ELEMENTS": elements,
    }
    return Variant(f"{workers} consumers x {blocks}, tiles of {elements}", why, macros)


def _lag(why: str, residents: int) -> Variant:
    return Variant(f"fix-up lag {residents}", why, {"ADAMP_FIXUP_LAG": residents})


def _fixup(why: str, tiles: int) -> Variant:
    name = f"{tiles} tile{'s' if tiles > 1 else ''} per fix-up entry"
    return Variant(name, why, {"ADAMP_TILES_PER_FIXUP": tiles})


DEFAULT = Variant("default", "the values in tuning.h")

VARIANTS: tuple[Variant, ...] = (
    DEFAULT,
    _prefetch("whether prefetching the next tile into L2 pays at all", 0, 0),
    _prefetch("SGDP by half, too: whether all next tiles are too much for L2", 4, 4),
    _prefetch("AdamP's arrays whole, as SGDP's", 8, 8),
    _blocks("tiles with one row of a 512-channel 3x3 convolution", 288, 2, 4608),
    _blocks(
        "80 registers per thread for 72; the last pass over a tile is a third full", 352, 2, 6144
    ),
    _blocks("a third block loads while two reduce their sums", 192, 3, 4608),
    _blocks("64 registers per thread: spills or not, by the table", 480, 2, 7680),
    _blocks("one large block: fewer entries, but nothing fills its pauses", 608, 1, 9728),
    _lag("the fix-up pass sooner, while p, m and v are still in L2", 1),
    _lag("sooner, but the tensor may be undecided when the entry is drawn", 2),
    _lag("later: fewer blocks wait for a decision", 4),
    _fixup("most blocks share a fix-up pass", 1),
    _fixup("more of them do", 2),
    _fixup("fewer looks at the flag of a tensor that needs no fix-up", 8),
    _fixup("fewer still", 16),
)
