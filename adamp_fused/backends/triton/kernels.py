"""The Triton kernel: one launch updates every tensor of one device and dtype.

Tables: ``tables``. Mathematics: ``stages``. Tiles: ``tiles``. A program takes one tile (whole rows,
or a span of a long row), moves the moments and adds up the row sums.
Where a tensor's outcome depends on other tiles too, nothing waits for it: rows are updated at once
under the tensor's last outcome where that can be rolled back, and else left. The program that
arrives last at a tensor decides it. What then remains (every row after a miss, otherwise the rows
left) is shared out, tile by tile, between that program and the helpers that come later in the grid.
With statistics every tensor is added up by the program that arrives last (``measurement``).
No part of the result depends on which program does what, and the words they meet in are zero again
when the launch ends.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
# ruff: noqa: SIM102 (one `if` decided when compiling, one when running)
# No `from __future__ import annotations`: Triton reads the annotations below.

import triton
import triton.language as tl

from adamp_fused.backends.triton import tables
from adamp_fused.backends.triton.measurement import (
    add_up_stats,
    load_measured,
    note_stats,
    publish_stats,
)
from adamp_fused.backends.triton.scratch import (
    REDUCE_BLOCK,
    add_spans,
    layer_slot,
    leave_row_sums,
    load_slots,
)
from adamp_fused.backends.triton.stages import (
    AUTO,
    FAILED_ROWS,
    GG,
    HEAD_FIELDS,
    PG,
    PP,
    PU,
    STEP_FIELDS,
    STEPPERS,
    decide,
    device,
    is_skipped,
    load_numbers,
    load_part,
    load_weight,
    part_at,
    prediction,
    radial_coefficient,
    root,
    row_passes,
    sums_at,
)
from adamp_fused.backends.triton.tiles import fix_up, sweep_rows, sweep_span

TYPES = {
    "torch.float64": tl.float64,
    "torch.float32": tl.float32,
    "torch.bfloat16": tl.bfloat16,
    "torch.float16": tl.float16,
}
#: The words of a shared tensor.
ARRIVED, NEXT_TILE, STATE, FENCE = (tl.constexpr(i) for i in range(tables.WORDS))
#: Its state: in the low bits how many have left, above them what was decided.
DECIDED = tl.constexpr(1 << 20)
OUTCOME_BIT, PREDICTED_BIT, WORK_BIT = tl.constexpr(21), tl.constexpr(23), tl.constexpr(25)


@device
def release(words, LANES: tl.constexpr, WARP: tl.constexpr):
    """Let every store of this program be seen by whoever sees its next atomic operation.

    On AMD a barrier does not wait for the stores of other wavefronts, so each performs a release of
    its own (LANES is the size of the program there, else 0).
    """
    if LANES > 0:
        lane = tl.arange(0, LANES)
        fence = words + FENCE + tl.zeros_like(lane)
        tl.atomic_or(fence, tl.zeros_like(lane), mask=lane % WARP == 0, sem="release")
    tl.debug_barrier()


@device
def add_up(w, n, scratch, part_row, DTYPE: tl.constexpr):
    """What the tiles of a shared tensor, which all have arrived, come to.

    Its sums, whether any row failed and any waits (more than 0), and what was predicted.
    """
    zero = tl.zeros([REDUCE_BLOCK], dtype=n.eps.dtype)
    all_pp, all_gg, all_pg, all_pu, all_failed, all_deferred = zero, zero, zero, zero, zero, zero
    for base in range(0, w.tiles, REDUCE_BLOCK):
        tile = base + tl.arange(0, REDUCE_BLOCK)
        inside = tile < w.tiles
        all_pp += load_slots(scratch, w, 0, tile, inside)
        all_gg += load_slots(scratch, w, 1, tile, inside)
        all_pg += load_slots(scratch, w, 2, tile, inside)
        all_pu += load_slots(scratch, w, 3, tile, inside)
        all_failed += load_slots(scratch, w, 4, tile, inside)
        all_deferred += load_slots(scratch, w, 5, tile, inside)
    failed = tl.sum((all_failed > 0).to(tl.int32), 0)
    deferred = tl.sum((all_deferred > 0).to(tl.int32), 0)
    if w.spans > 1:
        failed += reduce_rows(w, n, scratch, part_row)

    predicted = prediction(w, DTYPE)
    pp, gg, pg, pu = tl.sum(all_pp, 0), tl.sum(all_gg, 0), tl.sum(all_pg, 0), tl.sum(all_pu, 0)
    return pp, gg, pg, pu, failed, deferred, predicted


@device
def decide_tensor(
    weights, step_table, index, words, scratch, measured,
    DTYPE: tl.constexpr, CONTROLLED: tl.constexpr,
):  # fmt: skip
    """Decide a tensor of which every tile has arrived; what its state becomes."""
    w = load_weight(weights, index)
    n = load_numbers(step_table, index, scratch.dtype.element_ty, CONTROLLED)
    pp, gg, pg, pu, failed, deferred, predicted = add_up(w, n, scratch, None, DTYPE)
    outcome, layer_radial = decide(w, n, pp, gg, pg, pu, failed)
    tl.store(layer_slot(scratch, w), layer_radial)
    tl.store(w.view.to(tl.pointer_type(tl.int32)), outcome, mask=w.mode == AUTO)
    work = ((deferred > 0) | (outcome != predicted)).to(tl.int32)
    decision = (outcome << OUTCOME_BIT) | (predicted << PREDICTED_BIT) | (work << WORK_BIT)
    state = decision | DECIDED
    if measured is not None:
        note_stats(
            load_measured(measured, index), w, n, step_table, index, outcome, layer_radial,
            pp, gg, pg, pu, add_up_stats(w, n, scratch), scratch.dtype.element_ty, CONTROLLED,
        )  # fmt: skip
        if w.shared == 0:
            # Its programs have decided it themselves, and met for its statistics alone.
            state = 0
            tl.store(words + ARRIVED, 0)
    return state


@device
def publish(
    weights, step_table, index, words, scratch, part_row, measured,
    DTYPE: tl.constexpr, CONTROLLED: tl.constexpr,
):  # fmt: skip
    """Leave the sums of a part of which every tile has arrived, and what ``parts`` goes on from."""
    w = load_weight(weights, index)
    n = load_numbers(step_table, index, scratch.dtype.element_ty, CONTROLLED)
    pp, gg, pg, pu, failed, deferred, predicted = add_up(w, n, scratch, part_row, DTYPE)
    part = load_part(part_row)
    tl.store(sums_at(part.sums, STEPPERS), 1.0)
    tl.store(sums_at(part.sums, FAILED_ROWS), failed.to(tl.float64))
    tl.store(sums_at(part.sums, PP), pp.to(tl.float64))
    tl.store(sums_at(part.sums, GG), gg.to(tl.float64))
    tl.store(sums_at(part.sums, PG), pg.to(tl.float64))
    tl.store(sums_at(part.sums, PU), pu.to(tl.float64))
    if measured is not None:
        row, stats = load_measured(measured, index), add_up_stats(w, n, scratch)
        publish_stats(row, part.row_sums == 0, w, stats)
    work = (deferred > 0).to(tl.int32)
    tl.store(words + STATE, (predicted << PREDICTED_BIT) | (work << WORK_BIT))
    tl.store(words + ARRIVED, 0)


@device
def reduce_rows(w, n, scratch, part_row):
    """Rows of several spans: leave their radial coefficients; how many fail the test."""
    failed = tl.zeros([REDUCE_BLOCK], dtype=tl.int32)
    for base in range(0, w.rows, REDUCE_BLOCK):
        row = base + tl.arange(0, REDUCE_BLOCK)
        valid = row < w.rows
        pp, gg, pg, pu = add_spans(w, n, scratch, row, valid)
        radial = radial_coefficient(pu, root(pp), n.eps)
        tl.store(scratch + w.scratch + row, radial, mask=valid)
        leave_row_sums(part_row, row, valid, pp, gg, pg, pu)
        failed += tl.where(valid, 1 - row_passes(pp, gg, pg, w.channel_root, n), 0)
    return tl.sum(failed, 0)


@device
def advance_counts(step_table, REAL: tl.constexpr):
    """One program, when all have left: the step counts of tensors that had a gradient."""
    tensors = tl.load(step_table + HEAD_FIELDS - 1)
    for base in range(0, tensors, REDUCE_BLOCK):
        index = base + tl.arange(0, REDUCE_BLOCK)
        own, inside = step_table + HEAD_FIELDS + index * STEP_FIELDS, index < tensors
        grad, count = tl.load(own, mask=inside, other=0), tl.load(own + 4, mask=inside, other=0)
        counted, at = (grad != 0) & (count != 0), count.to(tl.pointer_type(REAL))
        tl.store(at, tl.load(at, mask=counted, other=0.0) + 1.0, mask=counted)


@device
def count_skipped(step_table):
    """One program: count a step that is skipped."""
    if tl.program_id(0) == 0:
        at = tl.load(step_table + 2).to(tl.pointer_type(tl.int64))
        is_counted = at.to(tl.int64) != 0
        tl.store(at, tl.load(at, mask=is_counted, other=0) + 1, mask=is_counted)


@device
def leave(step_table, words, REAL: tl.constexpr):
    """The end of a program where the device has a say: whoever is last advances the counts."""
    # Every thread has read the count by now.
    tl.debug_barrier()
    if tl.atomic_add(words, 1, sem="acq_rel") == tl.num_programs(0) - 1:
        advance_counts(step_table, REAL)
        tl.store(words, 0)


@triton.jit
def step_kernel(
    programs, weights, step_table, words, scratch, parts, measured,
    METHOD: tl.constexpr, DTYPE: tl.constexpr, SHAPES: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    SPAN: tl.constexpr, POLLS: tl.constexpr, LANES: tl.constexpr, WARP: tl.constexpr,
    CONTROLLED: tl.constexpr,
):  # fmt: skip
    """One program of a step; SHAPES has a bit for each shape that occurs in ``programs``.

    CONTROLLED: the device has a say in the step (see ``protocol.Control``), or counts it.
    parts: None where no tensor has parts in other processes; else another launch ends the step.
    measured: None where nobody asks for statistics.
    """
    REAL: tl.constexpr = scratch.dtype.element_ty
    MEASURED: tl.constexpr = measured is not None
    # Spans hold their sums across blocks, and the fix-up needs a record for each element: half a
    # block leaves as many registers to both as rows have. Half a block of 16-bit elements is less
    # than 16 bytes a thread: aligned spans have the registers for a whole one, but the fix-up would
    # spill two.
    HALF: tl.constexpr = BLOCK_SIZE // 2
    ALIGNED_BLOCK: tl.constexpr = BLOCK_SIZE if DTYPE.primitive_bitwidth == 16 else HALF
    at = programs + tl.program_id(0).to(tl.int64) * 3
    index, tile, shape = tl.load(at).to(tl.int64), tl.load(at + 1), tl.load(at + 2)
    grad = tl.load(step_table + HEAD_FIELDS + index * STEP_FIELDS)
    all_words, skipped = words, is_skipped(step_table, CONTROLLED)
    if (grad != 0) & (skipped == 0):
        # Rows of the tables are loaded anew in each part: held across all of them, they would take
        # the registers that blocks need.
        tensor = load_weight(weights, index)
        part_row = part_at(parts, index)
        words += tensor.words
        state = 0
        if shape >= 0:
            w = load_weight(weights, index)
            n = load_numbers(step_table, index, REAL, CONTROLLED)
            for code in tl.static_range(32):
                if (SHAPES >> code) & 1:
                    if shape == code:
                        if code < 2:
                            sweep_span(
                                w, grad, n, tile, scratch, part_row,
                                METHOD, DTYPE, ALIGNED_BLOCK if code else HALF, SPAN, code,
                                MEASURED,
                            )  # fmt: skip
                        else:
                            sweep_rows(
                                w, grad, n, tile, scratch, part_row,
                                METHOD, DTYPE, BLOCK_SIZE, 1 << (code // 2), code % 2, MEASURED,
                            )  # fmt: skip
            if MEASURED or tensor.shared != 0:
                release(words, LANES, WARP)
                if tl.atomic_add(words + ARRIVED, 1, sem="acq_rel") == tensor.tiles - 1:
                    if part_row is not None and load_part(part_row).sums != 0:
                        publish(
                            weights, step_table, index, words, scratch, part_row, measured,
                            DTYPE, CONTROLLED,
                        )  # fmt: skip
                    else:
                        state = decide_tensor(
                            weights, step_table, index, words, scratch, measured, DTYPE, CONTROLLED
                        )
                        release(words, LANES, WARP)
                        tl.atomic_add(words + STATE, state, sem="acq_rel")
        else:
            # It polls for a while and does not wait: if it leaves too soon, others do its share.
            state = tl.atomic_or(words + STATE, 0, sem="acquire")
            polls = 0
            while (state < DECIDED) & (polls < POLLS):
                state = tl.atomic_or(words + STATE, 0, sem="acquire")
                polls += 1
        if (state >> WORK_BIT) & 1:
            w = load_weight(weights, index)
            n = load_numbers(step_table, index, REAL, CONTROLLED)
            outcome, predicted = (state >> OUTCOME_BIT) & 3, (state >> PREDICTED_BIT) & 3
            unit = tl.atomic_add(words + NEXT_TILE, 1, sem="relaxed")
            while unit < tensor.tiles:
                fix_up(
                    w, grad, n, unit, scratch, outcome, predicted,
                    METHOD, DTYPE, SHAPES, HALF, SPAN,
                )  # fmt: skip
                unit = tl.atomic_add(words + NEXT_TILE, 1, sem="relaxed")
        if (shape < 0) | (state != 0):
            left = tl.atomic_add(words + STATE, 1, sem="acq_rel") & (DECIDED - 1)
            if left == tensor.helpers:
                tl.store(words + ARRIVED, 0)
                tl.store(words + NEXT_TILE, 0)
                tl.store(words + STATE, 0)
    if CONTROLLED:
        if skipped != 0:
            count_skipped(step_table)
        elif parts is None:
            leave(step_table, all_words, REAL)
