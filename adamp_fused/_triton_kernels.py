"""The Triton kernel: one launch updates every tensor of one device and dtype.

Tables: ``_triton_tables``. Stages: ``_triton_stages``. A program takes one item (whole rows, or a span of
a long row), moves the moments and adds up the row sums. Where a tensor's outcome depends on other items
too, nothing waits for it: rows are updated at once under the tensor's last outcome where that can be
taken back, and else left. The program that arrives last at a tensor decides it. What then remains (every
row after a miss, otherwise the rows left) is shared out, item by item, between that program and the
helpers that come later in the grid. No part of the result depends on which program does what, and the
words they meet in are zero again when the launch ends.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
# No `from __future__ import annotations`: Triton reads the annotations below.

import triton
import triton.language as tl

from adamp_fused import _triton_tables
from adamp_fused._triton_stages import (
    AUTO,
    CHANNEL,
    DEFERRED,
    HOLD,
    NONE,
    REVERSIBLE,
    accumulate,
    apply_update,
    coefficients,
    decide,
    device,
    load_numbers,
    load_weight,
    prediction,
    project_buffer,
    radial_coefficient,
    revisit,
    root,
    row_passes,
    store_real,
    whole_vectors,
)

TYPES = {
    "torch.float64": tl.float64,
    "torch.float32": tl.float32,
    "torch.bfloat16": tl.bfloat16,
    "torch.float16": tl.float16,
}
SLOT_FIELDS = tl.constexpr(_triton_tables.SLOT_FIELDS)
STEP_FIELDS = tl.constexpr(_triton_tables.STEP_FIELDS)
#: The words of a shared tensor.
ARRIVED, TICKET, STATE, FENCE = (tl.constexpr(i) for i in range(_triton_tables.WORDS))
ALIGNED_SHAPES, UNALIGNED_SHAPES = tl.constexpr(0xAAAAAAAA), tl.constexpr(0x55555555)
#: Its state: in the low bits how many have left, above them what was decided.
DECIDED = tl.constexpr(1 << 20)
OUTCOME_BIT, PREDICTED_BIT, WORK_BIT = tl.constexpr(21), tl.constexpr(23), tl.constexpr(25)


# ---- scratch of a shared tensor ------------------------------------------------------------------


@device
def slot(scratch, w, field: tl.constexpr, item):
    """Where an item leaves a sum: ``field`` of pp, gg, pg, pu, failed rows, deferred rows."""
    return scratch + w.scratch + 2 * w.rows + field * w.items + item


@device
def layer_slot(scratch, w):
    """Where the radial coefficient of the layer view is left."""
    return scratch + w.scratch + 2 * w.rows + SLOT_FIELDS * w.items


@device
def leave_sums(scratch, w, item, pp, gg, pg, pu, failed, deferred):
    """Fill an item's slots, from which the totals are added up in a fixed order."""
    tl.store(slot(scratch, w, 0, item), pp)
    tl.store(slot(scratch, w, 1, item), gg)
    tl.store(slot(scratch, w, 2, item), pg)
    tl.store(slot(scratch, w, 3, item), pu)
    tl.store(slot(scratch, w, 4, item), failed.to(pp.dtype))
    tl.store(slot(scratch, w, 5, item), deferred.to(pp.dtype))


# ---- accumulate and speculate --------------------------------------------------------------------


@device
def may_apply(outcome, passes, shrink):
    """1 where a row of a shared tensor may be updated under a predicted outcome, else 0."""
    likely = tl.where(outcome == NONE, 1, tl.where(outcome == CHANNEL, passes, 0))
    return tl.where(tl.abs(shrink) <= REVERSIBLE, likely, 0)


@device
def sweep_rows(
    w, grad, n, item, scratch,
    ADAM: tl.constexpr, DTYPE: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr,
    ALIGNED: tl.constexpr,
):  # fmt: skip
    """An item of whole rows, all of them on chip at once."""
    ROWS: tl.constexpr = TILE // WIDTH
    row = tl.arange(0, ROWS)
    first = item.to(tl.int64) * ROWS
    valid = row < w.rows - first
    cols = whole_vectors(w.cols.to(tl.int32), DTYPE, ALIGNED)
    col = tl.arange(0, WIDTH)[None, :]
    inside = valid[:, None] & (col < cols)
    start, offset = first * w.cols, row[:, None] * cols + col

    p, g, u, m = accumulate(w, grad, n, start, offset, inside, ADAM, DTYPE, ALIGNED)
    pp, gg = tl.sum(p * p, 1), tl.sum(g * g, 1)
    pg, pu = tl.sum(p * g, 1), tl.sum(p * u, 1)
    passes = row_passes(pp, gg, pg, w.channel_root, n)
    failed = tl.sum(tl.where(valid, 1 - passes, 0), 0)
    sum_pp, sum_gg, sum_pg, sum_pu = tl.sum(pp, 0), tl.sum(gg, 0), tl.sum(pg, 0), tl.sum(pu, 0)

    shared = w.shared != 0
    decided, layer_radial = decide(w, n, sum_pp, sum_gg, sum_pg, sum_pu, failed)
    outcome = tl.where(shared, prediction(w, DTYPE), decided)
    row_radial = radial_coefficient(pu, root(pp), n.eps)
    radial, shrink = coefficients(outcome, row_radial, layer_radial, n)
    now = tl.where(shared, may_apply(outcome, passes, shrink), 1)

    if outcome != HOLD:
        p_new = apply_update(p, u, shrink[:, None], n.step_size)
        # Rows left for later are written as they were: a mask would cost the vector stores.
        store_real(w.p, start, offset, inside, tl.where(now[:, None] != 0, p_new, p), DTYPE, ALIGNED)
    if not ADAM:
        if n.project_buffer:
            m = tl.where(now[:, None] != 0, project_buffer(u, p, radial[:, None], outcome), m)
    store_real(w.m, start, offset, inside, m, DTYPE, ALIGNED)
    if shared:
        rows = scratch + w.scratch + first + row
        tl.store(rows, row_radial, mask=valid)
        tl.store(rows + w.rows, tl.where(now != 0, shrink, DEFERRED), mask=valid)
        deferred = tl.sum(tl.where(valid, 1 - now, 0), 0)
        leave_sums(scratch, w, item, sum_pp, sum_gg, sum_pg, sum_pu, failed, deferred)
    elif w.mode == AUTO:
        tl.store(w.view.to(tl.pointer_type(tl.int32)), decided)


@device
def sweep_span(
    w, grad, n, item, scratch,
    ADAM: tl.constexpr, DTYPE: tl.constexpr, TILE: tl.constexpr, SPAN: tl.constexpr,
    ALIGNED: tl.constexpr,
):  # fmt: skip
    """An item that is a span of a long row, or all of it; read twice only where it is projected."""
    row = item // w.spans
    first = (item % w.spans) * SPAN
    start = row * w.cols + first
    count = whole_vectors(tl.minimum(w.cols - first, SPAN).to(tl.int32), DTYPE, ALIGNED)
    shared = w.shared != 0
    predicted = prediction(w, DTYPE)
    # Without a projection no sum is needed.
    plain = tl.where(predicted == NONE, may_apply(predicted, 0, n.decay), 0)
    at_once = tl.where(w.mode == NONE, 1, tl.where(shared, plain, 0))

    zero = tl.zeros([TILE], dtype=n.eps.dtype)
    all_pp, all_gg, all_pg, all_pu = zero, zero, zero, zero
    for base in range(0, count, TILE):
        offset = base + tl.arange(0, TILE)
        inside = offset < count
        p, g, u, m = accumulate(w, grad, n, start, offset, inside, ADAM, DTYPE, ALIGNED)
        store_real(w.m, start, offset, inside, m, DTYPE, ALIGNED)
        if at_once != 0:
            p_new = apply_update(p, u, n.decay, n.step_size)
            store_real(w.p, start, offset, inside, p_new, DTYPE, ALIGNED)
        all_pp += p * p
        all_gg += g * g
        all_pg += p * g
        all_pu += p * u

    if w.mode != NONE:
        pp, gg, pg, pu = tl.sum(all_pp, 0), tl.sum(all_gg, 0), tl.sum(all_pg, 0), tl.sum(all_pu, 0)
        passes = row_passes(pp, gg, pg, w.channel_root, n)
        row_radial = radial_coefficient(pu, root(pp), n.eps)
        # A span knows no more of its row.
        passes = tl.where(w.spans == 1, passes, 0)
        decided, layer_radial = decide(w, n, pp, gg, pg, pu, 1 - passes)
        outcome = tl.where(shared, predicted, decided)
        radial, shrink = coefficients(outcome, row_radial, layer_radial, n)
        now = tl.where(shared, may_apply(outcome, passes, shrink), 1)
        if now > at_once:
            # The sweep before wrote what other threads now read.
            tl.debug_barrier()
            nothing = tl.full((), DEFERRED, n.eps.dtype)
            for base in range(0, count, TILE):
                offset = base + tl.arange(0, TILE)
                revisit(
                    w, grad, n, start, offset, offset < count, True,
                    outcome, radial, shrink, radial, nothing, ADAM, DTYPE, ALIGNED,
                )  # fmt: skip
        if shared:
            # Every span of a row is treated alike. The row's radial coefficient, if it has several, is
            # left by whoever adds them up.
            rows = scratch + w.scratch + row
            tl.store(rows, row_radial, mask=w.spans == 1)
            tl.store(rows + w.rows, tl.where(now != 0, shrink, DEFERRED), mask=first == 0)
            failed = tl.where(w.spans == 1, 1 - passes, 0)
            leave_sums(scratch, w, item, pp, gg, pg, pu, failed, 1 - now)
        elif w.mode == AUTO:
            tl.store(w.view.to(tl.pointer_type(tl.int32)), decided)


# ---- meet, decide, finish ------------------------------------------------------------------------


@device
def release(words, LANES: tl.constexpr, WARP: tl.constexpr):
    """Let every store of this program be seen by whoever sees its next atomic operation.

    On AMD a barrier does not wait for the stores of other wavefronts, so each performs a release of its
    own (LANES is the size of the program there, else 0).
    """
    if LANES > 0:
        lane = tl.arange(0, LANES)
        fence = words + FENCE + tl.zeros_like(lane)
        tl.atomic_or(fence, tl.zeros_like(lane), mask=lane % WARP == 0, sem="release")
    tl.debug_barrier()


@device
def settle(w, n, scratch, DTYPE: tl.constexpr, TILE: tl.constexpr):
    """Decide a shared tensor of which every item has arrived; what its state becomes."""
    zero = tl.zeros([TILE], dtype=n.eps.dtype)
    all_pp, all_gg, all_pg, all_pu, all_failed, all_deferred = zero, zero, zero, zero, zero, zero
    for base in range(0, w.items, TILE):
        item = base + tl.arange(0, TILE)
        inside = item < w.items
        all_pp += load_slots(scratch, w, 0, item, inside)
        all_gg += load_slots(scratch, w, 1, item, inside)
        all_pg += load_slots(scratch, w, 2, item, inside)
        all_pu += load_slots(scratch, w, 3, item, inside)
        all_failed += load_slots(scratch, w, 4, item, inside)
        all_deferred += load_slots(scratch, w, 5, item, inside)
    failed = tl.sum((all_failed > 0).to(tl.int32), 0)
    deferred = tl.sum((all_deferred > 0).to(tl.int32), 0)
    if w.spans > 1:
        failed += settle_rows(w, n, scratch, TILE)

    predicted = prediction(w, DTYPE)
    pp, gg, pg, pu = tl.sum(all_pp, 0), tl.sum(all_gg, 0), tl.sum(all_pg, 0), tl.sum(all_pu, 0)
    outcome, layer_radial = decide(w, n, pp, gg, pg, pu, failed)
    tl.store(layer_slot(scratch, w), layer_radial)
    tl.store(w.view.to(tl.pointer_type(tl.int32)), outcome, mask=w.mode == AUTO)
    work = ((deferred > 0) | (outcome != predicted)).to(tl.int32)
    decision = (outcome << OUTCOME_BIT) | (predicted << PREDICTED_BIT) | (work << WORK_BIT)
    return decision | DECIDED


@device
def load_slots(scratch, w, field: tl.constexpr, item, inside):
    """One sum of several items, which other programs have written in this launch."""
    return tl.load(slot(scratch, w, field, item), mask=inside, other=0.0, cache_modifier=".cg")


@device
def settle_rows(w, n, scratch, TILE: tl.constexpr):
    """Rows of several spans: leave their radial coefficients; how many fail the test."""
    failed = tl.zeros([TILE], dtype=tl.int32)
    for base in range(0, w.rows, TILE):
        row = base + tl.arange(0, TILE)
        valid = row < w.rows
        zero = tl.zeros([TILE], dtype=n.eps.dtype)
        pp, gg, pg, pu = zero, zero, zero, zero
        for span in range(0, w.spans):
            item = row * w.spans + span
            pp += load_slots(scratch, w, 0, item, valid)
            gg += load_slots(scratch, w, 1, item, valid)
            pg += load_slots(scratch, w, 2, item, valid)
            pu += load_slots(scratch, w, 3, item, valid)
        radial = radial_coefficient(pu, root(pp), n.eps)
        tl.store(scratch + w.scratch + row, radial, mask=valid)
        failed += tl.where(valid, 1 - row_passes(pp, gg, pg, w.channel_root, n), 0)
    return tl.sum(failed, 0)


@device
def finish(
    w, grad, n, item, scratch, state,
    ADAM: tl.constexpr, DTYPE: tl.constexpr, SHAPES: tl.constexpr, TILE: tl.constexpr,
    SPAN: tl.constexpr,
):  # fmt: skip
    """Bring what an item has left to do to the outcome of its tensor."""
    outcome, predicted = (state >> OUTCOME_BIT) & 3, (state >> PREDICTED_BIT) & 3
    deferred = tl.load(slot(scratch, w, 5, item), cache_modifier=".cg")
    if (outcome != predicted) | (deferred > 0):
        first_row = item // w.spans * w.item_rows
        first = (item % w.spans) * SPAN
        line = tl.minimum(w.cols - first, SPAN).to(tl.int32)
        count = line * tl.minimum(w.rows - first_row, w.item_rows).to(tl.int32)
        start = first_row * w.cols + first
        records = scratch + w.scratch + first_row
        # The span that ends a single row may be no whole number of vectors.
        aligned = (w.aligned != 0) & (count * (DTYPE.primitive_bitwidth // 8) % 16 == 0)
        if ALIGNED_SHAPES & SHAPES:
            if aligned:
                finish_run(
                    w, grad, n, start, count, line, records, scratch, outcome, predicted,
                    ADAM, DTYPE, TILE, True,
                )  # fmt: skip
        if UNALIGNED_SHAPES & SHAPES:
            if aligned == 0:
                finish_run(
                    w, grad, n, start, count, line, records, scratch, outcome, predicted,
                    ADAM, DTYPE, TILE, False,
                )  # fmt: skip


@device
def finish_run(
    w, grad, n, start, count, line, records, scratch, outcome, predicted,
    ADAM: tl.constexpr, DTYPE: tl.constexpr, TILE: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Finish ``count`` elements from ``start``, in rows of ``line``, with their rows' records."""
    count = whole_vectors(count, DTYPE, ALIGNED)
    layer_radial = tl.load(layer_slot(scratch, w), cache_modifier=".cg")
    for base in range(0, count, TILE):
        offset = base + tl.arange(0, TILE)
        inside = offset < count
        record = records + offset // line
        row_radial = tl.load(record, mask=inside, other=0.0, cache_modifier=".cg")
        applied = tl.load(record + w.rows, mask=inside, other=0.0, cache_modifier=".cg")
        radial, shrink = coefficients(outcome, row_radial, layer_radial, n)
        undo_radial = tl.where(predicted == CHANNEL, row_radial, 0.0)
        todo = (applied == DEFERRED) | (outcome != predicted)
        revisit(
            w, grad, n, start, offset, inside, todo,
            outcome, radial, shrink, undo_radial, applied, ADAM, DTYPE, ALIGNED,
        )  # fmt: skip


# ---- kernel --------------------------------------------------------------------------------------


@triton.jit
def step_kernel(
    programs, weights, step_table, words, scratch,
    ADAM: tl.constexpr, DTYPE: tl.constexpr, SHAPES: tl.constexpr, TILE: tl.constexpr,
    SPAN: tl.constexpr, POLLS: tl.constexpr, LANES: tl.constexpr, WARP: tl.constexpr,
):  # fmt: skip
    """One program of a step; SHAPES has a bit for each shape that occurs in ``programs``."""
    at = programs + tl.program_id(0).to(tl.int64) * 3
    index, item, shape = tl.load(at).to(tl.int64), tl.load(at + 1), tl.load(at + 2)
    grad = tl.load(step_table + index * STEP_FIELDS)
    if grad != 0:
        w = load_weight(weights, index)
        n = load_numbers(step_table, index, scratch.dtype.element_ty)
        words += w.words
        state = 0
        if shape >= 0:
            for code in tl.static_range(32):
                if (SHAPES >> code) & 1:
                    if shape == code:
                        if code < 2:
                            sweep_span(w, grad, n, item, scratch, ADAM, DTYPE, TILE, SPAN, code % 2)
                        else:
                            sweep_rows(
                                w, grad, n, item, scratch, ADAM, DTYPE, TILE, 1 << (code // 2), code % 2
                            )
            if w.shared != 0:
                release(words, LANES, WARP)
                if tl.atomic_add(words + ARRIVED, 1, sem="acq_rel") == w.items - 1:
                    state = settle(w, n, scratch, DTYPE, TILE)
                    release(words, LANES, WARP)
                    tl.atomic_add(words + STATE, state, sem="acq_rel")
        else:
            # A short look-out, not a wait: whoever goes by too early leaves its share to the others.
            state = tl.atomic_or(words + STATE, 0, sem="acquire")
            polls = 0
            while (state < DECIDED) & (polls < POLLS):
                state = tl.atomic_or(words + STATE, 0, sem="acquire")
                polls += 1
        if (state >> WORK_BIT) & 1:
            unit = tl.atomic_add(words + TICKET, 1, sem="relaxed")
            while unit < w.items:
                finish(w, grad, n, unit, scratch, state, ADAM, DTYPE, SHAPES, TILE, SPAN)
                unit = tl.atomic_add(words + TICKET, 1, sem="relaxed")
        if (shape < 0) | (state != 0):
            left = tl.atomic_add(words + STATE, 1, sem="acq_rel") & (DECIDED - 1)
            if left == w.helpers:
                tl.store(words + ARRIVED, 0)
                tl.store(words + TICKET, 0)
                tl.store(words + STATE, 0)
