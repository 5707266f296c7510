"""The scratch of a launch: what the tiles of a tensor leave for the program that adds it up.

See ``tables.Weight`` for how it is laid out.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
# No `from __future__ import annotations`: Triton reads the annotations below.

import triton.language as tl

from adamp_fused.backends.triton import tables
from adamp_fused.backends.triton.stages import GG, PG, PP, PU, device, load_part, row_sums_at

SLOT_FIELDS = tl.constexpr(tables.SLOT_FIELDS)
#: Tiles or rows that the program which decides takes at a time.
REDUCE_BLOCK = tl.constexpr(256)


@device
def slot(scratch, w, field: tl.constexpr, tile):
    """Where a tile leaves a sum: ``field`` of pp, gg, pg, pu, failed rows, deferred rows."""
    return scratch + w.scratch + 2 * w.rows + field * w.tiles + tile


@device
def layer_slot(scratch, w):
    """Where the radial coefficient of the layer view is left."""
    return scratch + w.scratch + 2 * w.rows + SLOT_FIELDS * w.tiles


@device
def leave_sums(scratch, w, tile, pp, gg, pg, pu, failed, deferred):
    """Fill a tile's slots, from which the totals are added up in a fixed order."""
    tl.store(slot(scratch, w, 0, tile), pp)
    tl.store(slot(scratch, w, 1, tile), gg)
    tl.store(slot(scratch, w, 2, tile), pg)
    tl.store(slot(scratch, w, 3, tile), pu)
    tl.store(slot(scratch, w, 4, tile), failed.to(pp.dtype))
    tl.store(slot(scratch, w, 5, tile), deferred.to(pp.dtype))


@device
def load_slots(scratch, w, field: tl.constexpr, tile, inside):
    """One sum of several tiles, which other programs have written in this launch."""
    return tl.load(slot(scratch, w, field, tile), mask=inside, other=0.0, cache_modifier=".cg")


@device
def leave_row_sums(part_row, row, valid, pp, gg, pg, pu):
    """Fill the sums of rows that have parts in other processes; ``part_row`` as ``part_at``."""
    if part_row is not None:
        part = load_part(part_row)
        if part.row_sums != 0:
            tl.store(row_sums_at(part, row, PP), pp.to(tl.float64), mask=valid)
            tl.store(row_sums_at(part, row, GG), gg.to(tl.float64), mask=valid)
            tl.store(row_sums_at(part, row, PG), pg.to(tl.float64), mask=valid)
            tl.store(row_sums_at(part, row, PU), pu.to(tl.float64), mask=valid)


@device
def add_spans(w, n, scratch, row, valid):
    """The sums of rows of several spans: ``pp, gg, pg, pu``."""
    zero = tl.zeros([REDUCE_BLOCK], dtype=n.eps.dtype)
    pp, gg, pg, pu = zero, zero, zero, zero
    for span in range(0, w.spans):
        tile = row * w.spans + span
        pp += load_slots(scratch, w, 0, tile, valid)
        gg += load_slots(scratch, w, 1, tile, valid)
        pg += load_slots(scratch, w, 2, tile, valid)
        pu += load_slots(scratch, w, 3, tile, valid)
    return pp, gg, pg, pu
