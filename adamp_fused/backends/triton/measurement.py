"""What a step leaves of each tensor for ``optimizer.stats()``, where it is asked for.

``csrc/core/stats.h`` states the same for C++ and CUDA. Each tile leaves its share in slots of the
scratch, behind the sums that the projection needs. The program that adds up a tensor notes the step
in its state ``stats``; that of a part leaves what the other processes need, and the second launch
notes. Weights and state come out the same with statistics and without.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
# No `from __future__ import annotations`: Triton reads the annotations below.

import triton.language as tl

from adamp_fused._stats import Stat
from adamp_fused.backends.protocol import StatField
from adamp_fused.backends.triton.scratch import REDUCE_BLOCK, add_spans, layer_slot
from adamp_fused.backends.triton.stages import (
    AUTO,
    CHANNEL,
    HEAD_FIELDS,
    STEP_FIELDS,
    abs_cosine,
    bias_correction,
    decay_under,
    device,
    load_or,
    norms,
    radial_coefficient,
    radial_under,
    removed_by,
    root,
    sums_at,
)
from adamp_fused.backends.triton.tables import Measured, Numbers, Stats

MEASURED_FIELDS = tl.constexpr(len(Measured._fields))
UU, RP, RU, RR = (tl.constexpr(int(field)) for field in StatField)
MAX_COSINE = tl.constexpr(len(StatField))
#: Where a step begins to overwrite the state ``stats``, and what it writes once.
OUTCOME, FIRST_PP = tl.constexpr(int(Stat.OUTCOME)), tl.constexpr(int(Stat.FIRST_PP))
#: Behind the numbers of a group: ``lr`` and ``1 / bias_correction1``.
LR, INV_BIAS_CORRECTION1 = (tl.constexpr(len(Numbers._fields) + i) for i in range(2))


@device
def load_measured(measured, index):
    """A row of the table of what is measured."""
    at = measured + index * MEASURED_FIELDS
    return Measured(
        stats=tl.load(at),
        sums=tl.load(at + 1),
        max_cosine=tl.load(at + 2),
        row_root=tl.load(at + 3).to(tl.float64, bitcast=True),
    )


# ---- of rows and tiles ---------------------------------------------------------------------------


@device
def larger(a, b):
    """The larger of each two; a NaN stays."""
    return tl.where((b > a) | (b != b), b, a)


@device
def largest(x):
    """The largest of a block of numbers that are not negative; NaN if any is."""
    nans = tl.sum((x != x).to(tl.int32), 0)
    return tl.where(nans > 0, float("nan"), tl.max(tl.where(x == x, x, 0.0), 0))


@device
def row_stats(pp, gg, pg, pu, radial, valid, n):
    """What whole rows with these sums add: ``rp, ru, rr`` and ``|cos(p, g)|``."""
    rp, ru, rr = removed_by(radial, pp, pu)
    norm_p, norm_g = norms(pp, gg, n)
    cosine = abs_cosine(pg, norm_p, norm_g)
    zero = tl.zeros_like(pp)
    return (
        tl.where(valid, rp, zero),
        tl.where(valid, ru, zero),
        tl.where(valid, rr, zero),
        tl.where(valid, cosine, zero),
    )


@device
def stat_slot(scratch, w, field: tl.constexpr, tile):
    """Where a tile leaves one of its statistics, behind all that is there without them."""
    return layer_slot(scratch, w) + 1 + field * w.tiles + tile


@device
def leave_stats(scratch, w, tile, uu, rp, ru, rr, cosine):
    """Fill a tile's slots."""
    tl.store(stat_slot(scratch, w, UU, tile), uu)
    tl.store(stat_slot(scratch, w, RP, tile), rp)
    tl.store(stat_slot(scratch, w, RU, tile), ru)
    tl.store(stat_slot(scratch, w, RR, tile), rr)
    tl.store(stat_slot(scratch, w, MAX_COSINE, tile), cosine)


@device
def load_stat(scratch, w, field: tl.constexpr, tile, inside):
    """One statistic of several tiles, which other programs have written in this launch."""
    at = stat_slot(scratch, w, field, tile)
    return tl.load(at, mask=inside, other=0.0, cache_modifier=".cg")


@device
def add_up_stats(w, n, scratch):
    """The :class:`Stats` of a tensor of which every tile has arrived."""
    zero = tl.zeros([REDUCE_BLOCK], dtype=n.eps.dtype)
    uu, rp, ru, rr, cosine = zero, zero, zero, zero, zero
    for base in range(0, w.tiles, REDUCE_BLOCK):
        tile = base + tl.arange(0, REDUCE_BLOCK)
        inside = tile < w.tiles
        uu += load_stat(scratch, w, UU, tile, inside)
        rp += load_stat(scratch, w, RP, tile, inside)
        ru += load_stat(scratch, w, RU, tile, inside)
        rr += load_stat(scratch, w, RR, tile, inside)
        cosine = larger(cosine, load_stat(scratch, w, MAX_COSINE, tile, inside))
    if w.spans > 1:  # None of them has seen a whole row.
        for base in range(0, w.rows, REDUCE_BLOCK):
            row = base + tl.arange(0, REDUCE_BLOCK)
            valid = row < w.rows
            pp, gg, pg, pu = add_spans(w, n, scratch, row, valid)
            radial = radial_coefficient(pu, root(pp), n.eps)
            own_rp, own_ru, own_rr, own = row_stats(pp, gg, pg, pu, radial, valid, n)
            rp += own_rp
            ru += own_ru
            rr += own_rr
            cosine = larger(cosine, own)
    return Stats(
        uu=tl.sum(uu, 0),
        rp=tl.sum(rp, 0),
        ru=tl.sum(ru, 0),
        rr=tl.sum(rr, 0),
        max_cosine=largest(cosine),
    )


# ---- of a tensor ---------------------------------------------------------------------------------


@device
def measures_rows(w):
    """Whether each row is measured by itself; else the tensor is measured as one row."""
    return (w.mode == AUTO) | (w.mode == CHANNEL)


@device
def publish_stats(row, rows_are_whole, w, stats):
    """Leave the :class:`Stats` of a part; of rows that are not whole here ``uu`` alone."""
    is_asked, are_whole = row.sums != 0, measures_rows(w) & rows_are_whole
    rp, ru = tl.where(are_whole, stats.rp, 0.0), tl.where(are_whole, stats.ru, 0.0)
    rr, cosine = tl.where(are_whole, stats.rr, 0.0), tl.where(are_whole, stats.max_cosine, 0.0)
    tl.store(sums_at(row.sums, UU), stats.uu.to(tl.float64), mask=is_asked)
    tl.store(sums_at(row.sums, RP), rp.to(tl.float64), mask=is_asked)
    tl.store(sums_at(row.sums, RU), ru.to(tl.float64), mask=is_asked)
    tl.store(sums_at(row.sums, RR), rr.to(tl.float64), mask=is_asked)
    tl.store(sums_at(row.max_cosine, 0), cosine.to(tl.float64), mask=is_asked)


@device
def load_stats(row):
    """The :class:`Stats` of the whole of a tensor in parts, which its caller has added up."""
    is_asked = row.sums != 0
    return Stats(
        uu=tl.load(sums_at(row.sums, UU), mask=is_asked, other=0.0),
        rp=tl.load(sums_at(row.sums, RP), mask=is_asked, other=0.0),
        ru=tl.load(sums_at(row.sums, RU), mask=is_asked, other=0.0),
        rr=tl.load(sums_at(row.sums, RR), mask=is_asked, other=0.0),
        max_cosine=tl.load(sums_at(row.max_cosine, 0), mask=is_asked, other=0.0),
    )


@device
def step_numbers(step_table, index, REAL: tl.constexpr, CONTROLLED: tl.constexpr):
    """``lr`` and ``1 / bias_correction1`` of tensor ``index`` at this step, as float64."""
    own = step_table + HEAD_FIELDS + index * STEP_FIELDS
    at = (step_table + tl.load(own + 1)).to(tl.pointer_type(tl.float64))
    lr = tl.load(at + LR) * load_or(tl.load(own + 2), 1.0, tl.float32)
    inverse = tl.load(at + INV_BIAS_CORRECTION1)
    if CONTROLLED:
        count_address = tl.load(own + 4)
        if count_address != 0:
            count = load_or(count_address, 0.0, REAL) + 1.0
            inverse /= bias_correction(tl.load(at), count)
    return lr, inverse


@device
def note_stats(
    row, w, n, step_table, index, outcome, layer_radial, pp, gg, pg, pu, stats,
    REAL: tl.constexpr, CONTROLLED: tl.constexpr,
):  # fmt: skip
    """Write the step of a tensor into its state ``stats``; ``pp`` to ``pu``: of the whole."""
    lr, inv_bias_correction1 = step_numbers(step_table, index, REAL, CONTROLLED)
    rp, ru, rr = removed_by(radial_under(outcome, 0.0, layer_radial), pp, pu)
    by_channel = outcome == CHANNEL
    norm_p, norm_g = norms(pp, gg, n)
    cosine = abs_cosine(pg, norm_p, norm_g)
    noted = (
        outcome,
        tl.where(measures_rows(w), stats.max_cosine, cosine),
        n.delta * row.row_root,
        pp,
        gg,
        pu,
        stats.uu,
        tl.where(by_channel, stats.rp, rp),
        tl.where(by_channel, stats.ru, ru),
        tl.where(by_channel, stats.rr, rr),
        lr,
        inv_bias_correction1,
        decay_under(outcome, n.decay, n.decay_projected),
    )  # In the order of ``Stat``, up to FIRST_PP.
    is_asked, to = row.stats != 0, sums_at(row.stats, 0)
    steps = 0.0
    for i in tl.static_range(OUTCOME):
        steps += tl.load(to + i, mask=is_asked, other=0.0)
    tl.store(to + FIRST_PP, pp.to(tl.float64), mask=is_asked & (steps == 0.0))
    count = tl.load(to + outcome, mask=is_asked, other=0.0)
    tl.store(to + outcome, count + 1.0, mask=is_asked)
    for i in tl.static_range(FIRST_PP - OUTCOME):
        tl.store(to + OUTCOME + i, noted[i].to(tl.float64), mask=is_asked)
