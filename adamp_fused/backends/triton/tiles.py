"""What a program does to one tile: sweep it, and come back to it if its tensor's outcome asks.

A tile of a shared tensor leaves its sums in slots of the scratch, and for each row the radial
coefficient and the shrinkage that was applied. With statistics a tile of any tensor leaves sums.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
# ruff: noqa: SIM102 (one `if` decided when compiling, one when running)
# No `from __future__ import annotations`: Triton reads the annotations below.

import triton.language as tl

from adamp_fused.backends.triton.measurement import largest, leave_stats, row_stats
from adamp_fused.backends.triton.scratch import layer_slot, leave_row_sums, leave_sums, slot
from adamp_fused.backends.triton.stages import (
    AUTO,
    CHANNEL,
    DEFERRED,
    HOLD,
    NONE,
    REVERSIBLE,
    SGDP,
    accumulate,
    apply_update,
    coefficients,
    decide,
    device,
    fix_up_block,
    prediction,
    radial_coefficient,
    radial_part,
    root,
    row_passes,
    store_real,
    whole_vectors,
)

ALIGNED_SHAPES, UNALIGNED_SHAPES = tl.constexpr(0xAAAAAAAA), tl.constexpr(0x55555555)


# ---- accumulate, and apply what is certain or predicted ------------------------------------------


@device
def may_apply(outcome, passes, shrink, n):
    """1 where a row of a shared tensor may be updated under a predicted outcome, else 0."""
    likely = tl.where(outcome == NONE, 1, tl.where(outcome == CHANNEL, passes, 0))
    # A weight that has become infinite cannot be rolled back.
    likely = tl.where(n.step_size <= 1e30, likely, 0)
    return tl.where(tl.abs(shrink) <= REVERSIBLE, likely, 0)


@device
def sweep_rows(
    w, grad, n, tile, scratch, part_row,
    METHOD: tl.constexpr, DTYPE: tl.constexpr, BLOCK_SIZE: tl.constexpr, WIDTH: tl.constexpr,
    ALIGNED: tl.constexpr, MEASURED: tl.constexpr,
):  # fmt: skip
    """A tile of whole rows, all of them on chip at once."""
    ROWS: tl.constexpr = BLOCK_SIZE // WIDTH
    row = tl.arange(0, ROWS)
    first = tile.to(tl.int64) * ROWS
    valid = row < w.rows - first
    cols = whole_vectors(w.cols.to(tl.int32), DTYPE, ALIGNED)
    col = tl.arange(0, WIDTH)[None, :]
    inside = valid[:, None] & (col < cols)
    start, offset = first * w.cols, row[:, None] * cols + col

    p, g, u, m = accumulate(w, grad, n, start, offset, inside, METHOD, DTYPE, ALIGNED)
    pp, gg = tl.sum(p * p, 1), tl.sum(g * g, 1)
    pg, pu = tl.sum(p * g, 1), tl.sum(p * u, 1)
    passes = row_passes(pp, gg, pg, w.channel_root, n)
    failed = tl.sum(tl.where(valid, 1 - passes, 0), 0)
    sum_pp, sum_gg, sum_pg, sum_pu = tl.sum(pp, 0), tl.sum(gg, 0), tl.sum(pg, 0), tl.sum(pu, 0)

    shared = w.shared != 0
    decided, layer_radial = decide(w, n, sum_pp, sum_gg, sum_pg, sum_pu, failed)
    outcome = tl.where(shared, prediction(w, DTYPE), decided)
    row_radial = radial_coefficient(pu, root(pp), n.eps)
    radial, shrink, decay = coefficients(outcome, row_radial, layer_radial, n)
    now = tl.where(shared, may_apply(outcome, passes, shrink, n), 1)

    if outcome != HOLD:
        p_new = apply_update(p, u, shrink[:, None], n.step_size, radial[:, None], decay)
        # Rows left for later are written as they were: a mask would cost the vector stores.
        p_new = tl.where(now[:, None] != 0, p_new, p)
        store_real(w.p, start, offset, inside, p_new, DTYPE, ALIGNED)
    if METHOD == SGDP:
        if n.project_buffer:
            m = tl.where(now[:, None] != 0, u - radial_part(p, radial[:, None]), m)
    store_real(w.m, start, offset, inside, m, DTYPE, ALIGNED)
    if shared:
        rows = scratch + w.scratch + first + row
        tl.store(rows, row_radial, mask=valid)
        tl.store(rows + w.rows, tl.where(now != 0, shrink, DEFERRED), mask=valid)
        leave_row_sums(part_row, first + row, valid, pp, gg, pg, pu)
        deferred = tl.sum(tl.where(valid, 1 - now, 0), 0)
        leave_sums(scratch, w, tile, sum_pp, sum_gg, sum_pg, sum_pu, failed, deferred)
    elif w.mode == AUTO:
        tl.store(w.view.to(tl.pointer_type(tl.int32)), decided)
    if MEASURED:
        if shared == 0:
            leave_sums(scratch, w, tile, sum_pp, sum_gg, sum_pg, sum_pu, failed, failed * 0)
        uu = tl.sum(tl.sum(u * u, 1), 0)
        rp, ru, rr, cosine = row_stats(pp, gg, pg, pu, row_radial, valid, n)
        rp, ru, rr = tl.sum(rp, 0), tl.sum(ru, 0), tl.sum(rr, 0)
        leave_stats(scratch, w, tile, uu, rp, ru, rr, largest(cosine))


@device
def sweep_span(
    w, grad, n, tile, scratch, part_row,
    METHOD: tl.constexpr, DTYPE: tl.constexpr, BLOCK_SIZE: tl.constexpr, SPAN: tl.constexpr,
    ALIGNED: tl.constexpr, MEASURED: tl.constexpr,
):  # fmt: skip
    """A tile that is a span of a long row, or all of it; read twice only where it is projected."""
    row = tile // w.spans
    first = (tile % w.spans) * SPAN
    start = row * w.cols + first
    count = whole_vectors(tl.minimum(w.cols - first, SPAN).to(tl.int32), DTYPE, ALIGNED)
    shared = w.shared != 0
    predicted = prediction(w, DTYPE)
    # Without a projection no sum is needed.
    plain = tl.where(predicted == NONE, may_apply(predicted, 0, n.decay, n), 0)
    at_once = tl.where(w.mode == NONE, 1, tl.where(shared, plain, 0))

    zero = tl.zeros([BLOCK_SIZE], dtype=n.eps.dtype)
    all_pp, all_gg, all_pg, all_pu, all_uu = zero, zero, zero, zero, zero
    for base in range(0, count, BLOCK_SIZE):
        offset = base + tl.arange(0, BLOCK_SIZE)
        inside = offset < count
        p, g, u, m = accumulate(w, grad, n, start, offset, inside, METHOD, DTYPE, ALIGNED)
        store_real(w.m, start, offset, inside, m, DTYPE, ALIGNED)
        if at_once != 0:
            p_new = apply_update(p, u, n.decay, n.step_size, 0.0, n.decay)
            store_real(w.p, start, offset, inside, p_new, DTYPE, ALIGNED)
        all_pp += p * p
        all_gg += g * g
        all_pg += p * g
        all_pu += p * u
        if MEASURED:
            all_uu += u * u

    if MEASURED or w.mode != NONE:
        pp, gg, pg, pu = tl.sum(all_pp, 0), tl.sum(all_gg, 0), tl.sum(all_pg, 0), tl.sum(all_pu, 0)
        passes = row_passes(pp, gg, pg, w.channel_root, n)
        row_radial = radial_coefficient(pu, root(pp), n.eps)
        # A span knows no more of its row.
        passes = tl.where(w.spans == 1, passes, 0)
        decided, layer_radial = decide(w, n, pp, gg, pg, pu, 1 - passes)
        outcome = tl.where(shared, predicted, decided)
        radial, shrink, decay = coefficients(outcome, row_radial, layer_radial, n)
        now = tl.where(shared, may_apply(outcome, passes, shrink, n), 1)
        if now > at_once:
            # The sweep before wrote what other threads now read.
            tl.debug_barrier()
            nothing = tl.full((), DEFERRED, n.eps.dtype)
            for base in range(0, count, BLOCK_SIZE):
                offset = base + tl.arange(0, BLOCK_SIZE)
                fix_up_block(
                    w, grad, n, start, offset, offset < count, True,
                    radial, shrink, decay, radial, nothing, METHOD, DTYPE, ALIGNED,
                )  # fmt: skip
        if shared:
            # Every span of a row is treated alike. The radial coefficient of a row that has several
            # is left by whoever adds them up, as its sums are.
            rows = scratch + w.scratch + row
            leave_row_sums(part_row, row, w.spans == 1, pp, gg, pg, pu)
            tl.store(rows, row_radial, mask=w.spans == 1)
            tl.store(rows + w.rows, tl.where(now != 0, shrink, DEFERRED), mask=first == 0)
            failed = tl.where(w.spans == 1, 1 - passes, 0)
            leave_sums(scratch, w, tile, pp, gg, pg, pu, failed, 1 - now)
        elif w.mode == AUTO:
            tl.store(w.view.to(tl.pointer_type(tl.int32)), decided)
        if MEASURED:
            failed = 1 - passes
            if shared == 0:
                leave_sums(scratch, w, tile, pp, gg, pg, pu, failed, failed * 0)
            rp, ru, rr, cosine = row_stats(pp, gg, pg, pu, row_radial, w.spans == 1, n)
            leave_stats(scratch, w, tile, tl.sum(all_uu, 0), rp, ru, rr, cosine)


# ---- come back -----------------------------------------------------------------------------------


@device
def fix_up(
    w, grad, n, tile, scratch, outcome, predicted,
    METHOD: tl.constexpr, DTYPE: tl.constexpr, SHAPES: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    SPAN: tl.constexpr,
):  # fmt: skip
    """Bring what a tile has left to do to the outcome of its tensor."""
    deferred = tl.load(slot(scratch, w, 5, tile), cache_modifier=".cg")
    if (outcome != predicted) | (deferred > 0):
        first_row = tile // w.spans * w.tile_rows
        first = (tile % w.spans) * SPAN
        line = tl.minimum(w.cols - first, SPAN).to(tl.int32)
        count = line * tl.minimum(w.rows - first_row, w.tile_rows).to(tl.int32)
        start = first_row * w.cols + first
        records = scratch + w.scratch + first_row
        # The span that ends a single row may be no whole number of vectors.
        aligned = (w.aligned != 0) & (count * (DTYPE.primitive_bitwidth // 8) % 16 == 0)
        if ALIGNED_SHAPES & SHAPES:
            if aligned:
                fix_up_run(
                    w, grad, n, start, count, line, records, scratch, outcome, predicted,
                    METHOD, DTYPE, BLOCK_SIZE, True,
                )  # fmt: skip
        if UNALIGNED_SHAPES & SHAPES:
            if aligned == 0:
                fix_up_run(
                    w, grad, n, start, count, line, records, scratch, outcome, predicted,
                    METHOD, DTYPE, BLOCK_SIZE, False,
                )  # fmt: skip


@device
def fix_up_run(
    w, grad, n, start, count, line, records, scratch, outcome, predicted,
    METHOD: tl.constexpr, DTYPE: tl.constexpr, BLOCK_SIZE: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Fix up ``count`` elements from ``start``, in rows of ``line``, with their rows' records."""
    count = whole_vectors(count, DTYPE, ALIGNED)
    layer_radial = tl.load(layer_slot(scratch, w), cache_modifier=".cg")
    for base in range(0, count, BLOCK_SIZE):
        offset = base + tl.arange(0, BLOCK_SIZE)
        inside = offset < count
        record = records + offset // line
        row_radial = tl.load(record, mask=inside, other=0.0, cache_modifier=".cg")
        applied = tl.load(record + w.rows, mask=inside, other=0.0, cache_modifier=".cg")
        radial, shrink, decay = coefficients(outcome, row_radial, layer_radial, n)
        applied_radial = tl.where(predicted == CHANNEL, row_radial, 0.0)
        todo = (applied == DEFERRED) | (outcome != predicted)
        fix_up_block(
            w, grad, n, start, offset, inside, todo,
            radial, shrink, decay, applied_radial, applied, METHOD, DTYPE, ALIGNED,
        )  # fmt: skip
