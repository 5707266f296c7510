"""The second half of a step, of tensors that have parts in other processes: one more launch.

``step_kernel`` has left what has to be known of a part: the sums of the tensor, to be added up over
all processes, and in its state what was predicted and whether rows wait. Here the programs of the
part, which are its helpers, decide the tensor, each by itself and all alike, and share out by their
numbers what is left to do.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
# No `from __future__ import annotations`: Triton reads the annotations below.

import triton
import triton.language as tl

from adamp_fused.backends.triton.kernels import (
    PREDICTED_BIT,
    STATE,
    WORK_BIT,
    leave,
    release,
)
from adamp_fused.backends.triton.measurement import load_measured, load_stats, note_stats
from adamp_fused.backends.triton.scratch import REDUCE_BLOCK, layer_slot
from adamp_fused.backends.triton.stages import (
    AUTO,
    FAILED_ROWS,
    GG,
    HEAD_FIELDS,
    PG,
    PP,
    PU,
    STEP_FIELDS,
    decide,
    device,
    is_skipped,
    load_numbers,
    load_part,
    load_weight,
    part_at,
    radial_coefficient,
    root,
    row_sums_at,
    sums_at,
)
from adamp_fused.backends.triton.tiles import fix_up


@device
def decide_whole(
    weights, step_table, index, words, parts, measured, is_first,
    REAL: tl.constexpr, CONTROLLED: tl.constexpr,
):  # fmt: skip
    """Decide a tensor by its sums over all processes.

    Its outcome and radial coefficient, and what was predicted; whether anything is left to do.
    """
    w = load_weight(weights, index)
    n = load_numbers(step_table, index, REAL, CONTROLLED)
    sums = load_part(part_at(parts, index)).sums
    pp, gg = tl.load(sums_at(sums, PP)), tl.load(sums_at(sums, GG))
    pg, pu = tl.load(sums_at(sums, PG)), tl.load(sums_at(sums, PU))
    outcome, radial = decide(w, n, pp, gg, pg, pu, tl.load(sums_at(sums, FAILED_ROWS)))
    state = tl.load(words + w.words + STATE)
    predicted = (state >> PREDICTED_BIT) & 3
    is_told = is_first & (w.mode == AUTO)
    tl.store(w.view.to(tl.pointer_type(tl.int32)), outcome, mask=is_told)
    is_left = (outcome != predicted) | ((state >> WORK_BIT) & 1)
    if measured is not None:
        # The sums may have been for statistics alone.
        is_left = is_left & (w.shared != 0)
        if is_first:
            row = load_measured(measured, index)
            note_stats(
                row, w, n, step_table, index, outcome, radial, pp, gg, pg, pu, load_stats(row),
                REAL, CONTROLLED,
            )  # fmt: skip
    return outcome, radial.to(REAL), predicted, is_left


@device
def leave_coefficients(w, n, part_row, tile, layer_radial, scratch):
    """Put the coefficients of a tile, if other processes have a share in them, where it looks."""
    tl.store(layer_slot(scratch, w), layer_radial)
    part = load_part(part_row)
    if part.row_sums != 0:
        first = tile // w.spans * w.tile_rows
        for base in range(0, w.tile_rows, REDUCE_BLOCK):
            row = first + base + tl.arange(0, REDUCE_BLOCK)
            valid = row < tl.minimum(first + w.tile_rows, w.rows)
            pp = tl.load(row_sums_at(part, row, PP), mask=valid, other=0.0)
            pu = tl.load(row_sums_at(part, row, PU), mask=valid, other=0.0)
            radial = radial_coefficient(pu, root(pp), n.eps)
            tl.store(scratch + w.scratch + row, radial.to(n.eps.dtype), mask=valid)


@triton.jit
def finish_kernel(
    programs, weights, step_table, words, scratch, parts, measured,
    METHOD: tl.constexpr, DTYPE: tl.constexpr, SHAPES: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    SPAN: tl.constexpr, LANES: tl.constexpr, WARP: tl.constexpr, CONTROLLED: tl.constexpr,
):  # fmt: skip
    """One helper of a part; the constants are those of ``step_kernel``."""
    REAL: tl.constexpr = scratch.dtype.element_ty
    at = programs + tl.program_id(0).to(tl.int64) * 3
    index, number = tl.load(at).to(tl.int64), tl.load(at + 1)
    grad = tl.load(step_table + HEAD_FIELDS + index * STEP_FIELDS)
    skipped = is_skipped(step_table, CONTROLLED)
    if (grad != 0) & (skipped == 0):
        outcome, layer_radial, predicted, is_left = decide_whole(
            weights, step_table, index, words, parts, measured, number == 0, REAL, CONTROLLED
        )
        if is_left != 0:
            # Loaded anew, as in ``step_kernel``.
            w = load_weight(weights, index)
            n = load_numbers(step_table, index, REAL, CONTROLLED)
            part_row = part_at(parts, index)
            for tile in range(number, w.tiles.to(tl.int32), w.helpers.to(tl.int32)):
                # Where programs leave the same coefficients, they leave the same values.
                leave_coefficients(w, n, part_row, tile, layer_radial, scratch)
                release(words + w.words, LANES, WARP)
                fix_up(
                    w, grad, n, tile, scratch, outcome, predicted,
                    METHOD, DTYPE, SHAPES, BLOCK_SIZE // 2, SPAN,
                )  # fmt: skip
    if CONTROLLED and skipped == 0:
        leave(step_table, words, REAL)
