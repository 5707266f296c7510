"""The norm of all gradients, for steps that clip: one launch for each dtype, before the step's.

A program squares and adds up a piece of one gradient. The last one to arrive adds up what all have
left, in the order of the pieces, and leaves the norm, and what the gradients are multiplied by.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
# No `from __future__ import annotations`: Triton reads the annotations below.

import triton
import triton.language as tl

from adamp_fused.backends.triton.kernels import release
from adamp_fused.backends.triton.scratch import REDUCE_BLOCK
from adamp_fused.backends.triton.stages import (
    HEAD_FIELDS,
    STEP_FIELDS,
    clip_coefficient,
    device,
    is_skipped,
    load_weight,
    pointer,
    unscaling,
)


@device
def squares_of(step_table, weights, index, piece, DTYPE: tl.constexpr, REAL: tl.constexpr,
               BLOCK_SIZE: tl.constexpr, SPAN: tl.constexpr):  # fmt: skip
    """The sum of the squares of one piece, as float64; 0 where there is no gradient."""
    grad = tl.load(step_table + HEAD_FIELDS + index * STEP_FIELDS)
    factor = unscaling(step_table).to(REAL)
    w = load_weight(weights, index)
    numel = tl.where(grad != 0, w.rows * w.cols, 0)
    start = piece.to(tl.int64) * SPAN
    offset = tl.arange(0, BLOCK_SIZE)
    sums = tl.zeros([BLOCK_SIZE], dtype=tl.float64)
    for base in range(0, SPAN, BLOCK_SIZE):
        inside = start + base + offset < numel
        at = pointer(grad, start + base, offset, DTYPE, False)
        g = tl.load(at, mask=inside, other=0.0).to(REAL) * factor
        sums += (g * g).to(tl.float64)
    return tl.sum(sums, 0)


@device
def publish(partial, count, result, norm, is_first):
    """The norm of this launch and those before it, and the coefficient that follows."""
    sums = tl.zeros([REDUCE_BLOCK], dtype=tl.float64)
    for base in range(0, count, REDUCE_BLOCK):
        index = base + tl.arange(0, REDUCE_BLOCK)
        sums += tl.load(partial + index, mask=index < count, other=0.0, cache_modifier=".cg")
    total = tl.sum(sums, 0)
    if is_first == 0:
        total += tl.load(result)
    tl.store(result, total)
    root = tl.sqrt(total)
    tl.store(norm, root.to(norm.dtype.element_ty))
    tl.store(result + 1, clip_coefficient(root, tl.load(result + 2)))


@triton.jit
def norm_kernel(
    pieces, weights, step_table, words, partial, result, norm, is_first,
    DTYPE: tl.constexpr, REAL: tl.constexpr, BLOCK_SIZE: tl.constexpr, SPAN: tl.constexpr,
    LANES: tl.constexpr, WARP: tl.constexpr,
):  # fmt: skip
    """One piece. ``result``: sum of squares, coefficient, and the most that the norm may be."""
    program, count = tl.program_id(0), tl.num_programs(0)
    if is_skipped(step_table, True) == 0:
        at = pieces + program.to(tl.int64) * 2
        index, piece = tl.load(at).to(tl.int64), tl.load(at + 1)
        own = squares_of(step_table, weights, index, piece, DTYPE, REAL, BLOCK_SIZE, SPAN)
        tl.store(partial + program, own)
        # `words` has one that is only for fences behind the one that counts.
        release(words, LANES, WARP)
        if tl.atomic_add(words, 1, sem="acq_rel") == count - 1:
            publish(partial, count, result, norm, is_first)
            tl.store(words, 0)
