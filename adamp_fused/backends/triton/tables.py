"""The work of one launch as tables: what is known before a gradient is, built once per plan.

A launch is a list of programs. Each takes one tile of one tensor: a block of whole rows that fits
on chip, or a span of one long row. Tensors without a projection are one long row. A tensor whose
outcome depends on several tiles is *shared*: its programs meet in a few words of memory and, after
them in the grid, helpers stand by for what its last program finds left to do (``kernels``).
A tensor that has parts in other processes is shared, too, and its helpers are of a launch of their
own, when sums have been added up over all processes (``parts``).

Pure host code that needs no Triton; the kernels read the row types below by field order.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adamp_fused._stats import measures_rows
from adamp_fused.backends.protocol import Shard, Slot, StatField

#: The option ``projection``; the first three are also the outcomes of a step, as ``view`` records
#: them. ``Projection`` in csrc/core/params.h.
OFF, CHANNEL, LAYER, AUTO = 0, 1, 2, 3
MODES = {"off": OFF, "channel": CHANNEL, "layer": LAYER, "auto": AUTO}
#: The methods by their names, for the kernels.
METHODS = {"adamp": 0, "sgdp": 1}

#: Elements a program holds at once. With 8 warps that is 8 float32 of each tensor a thread, which
#: leaves registers for two programs or more on an SM.
BLOCK_SIZE = 2048
#: Blocks in a span of a long row.
BLOCKS_PER_SPAN = 8
#: Row lengths are rounded up to one of these for a block: few, for each is code of its own; close
#: together where weight matrices are, because the lanes past a row's end do nothing. None is
#: narrower than 16 bytes: with more rows, and a sum of each, the kernel spills.
WIDTHS = (4, 8, 16, 64, 256, 512, 1024, 2048)
#: One helper stands by for so many tiles of a tensor: few where speculation nearly always leaves
#: nothing to do, more where every tile is left to do.
TILES_PER_HELPER, DEFERRED_TILES_PER_HELPER = 8, 2
#: Helpers start so many programs after their tensor's last tile, by when it is decided, and are no
#: more than that: about as many as a large GPU runs at once.
HELPER_LAG = 1024

#: ``shape`` of a helper in the program table; a tile's is ``2 * log2(width) + aligned``, where
#: width 1 stands for a span.
HELPER = -1
#: At the head of a step's table, the addresses of what decides on the device (0: not asked for) and
#: the number of tensors: ``grad_scale``, ``found_inf``, ``steps_skipped``, ``clip``, tensors.
HEAD_FIELDS = 5
#: Per tensor and step: the gradient's address, the index of its numbers, the addresses of a
#: learning rate and of a weight decay that live on the device, the address of ``step`` where the
#: device advances it.
STEP_FIELDS = 5
#: Per tile: four sums, rows that failed the test, rows not updated yet.
SLOT_FIELDS = 6
#: The same for statistics: those of ``protocol.StatField``, and the largest cosine of a row.
STAT_SLOT_FIELDS = len(StatField) + 1
#: Per shared tensor: tiles arrived, next tile to fix up, state, and one that is only for fences.
WORDS = 4


class Weight(NamedTuple):
    """One tensor of a launch, a row of int64 (floats by their bits).

    ``rows`` and ``cols`` as the kernel walks it; ``spans`` per row; ``tile_rows`` per tile.
    ``scratch`` indexes the launch's scratch: per row a radial coefficient, per row the shrinkage
    applied, the slots of the tiles, the layer's radial coefficient; with statistics, slots of the
    tiles for those. ``channel_root`` and ``layer_root``: 1/sqrt(row length) of both views of the
    whole tensor. Where rows have parts in other processes ``channel_root`` is 0, with which no row
    passes a test here.
    """

    p: Any
    m: Any
    v: Any
    view: Any
    rows: Any
    cols: Any
    spans: Any
    tile_rows: Any
    tiles: Any
    helpers: Any
    mode: Any
    shared: Any
    aligned: Any
    scratch: Any
    words: Any
    channel_root: Any
    layer_root: Any


class Part(NamedTuple):
    """Where a tensor's part leaves its sums and finds those of the whole, a row of addresses.

    0 where there is none; see ``protocol.Shard``.
    """

    sums: Any
    row_sums: Any


class Measured(NamedTuple):
    """Where the statistics of a tensor go, a row of int64 (floats by their bits).

    ``stats``: the address of the state; 0 where nobody asks for it. ``sums`` and ``max_cosine``: of
    ``stats`` and ``max_cosine`` of its ``protocol.Shard``; 0 without. ``row_root``: 1/sqrt(length)
    of what is measured as a row.
    """

    stats: Any
    sums: Any
    max_cosine: Any
    row_root: Any


class Stats(NamedTuple):
    """Sums over a tensor for its statistics; ``StatSums`` in csrc/core/stats.h."""

    uu: Any
    rp: Any
    ru: Any
    rr: Any
    max_cosine: Any


class Numbers(NamedTuple):
    """The scalars of one group at one step count, a row of float64 as the extension makes it.

    ``step_size``, ``decay`` and ``decay_projected`` are still to be multiplied by a learning rate
    that lives on the device, the last two also by such a weight decay. ``factor`` is that of the
    gradient, ``nesterov`` and ``project_buffer`` are 0 or 1. See ``Scalars`` in
    csrc/core/methods.h. Two more stand behind them for statistics: the learning rate itself, and
    ``1 / bias_correction1`` (1 where the count lives on the device).
    """

    beta1: Any
    one_minus_beta1: Any
    beta2: Any
    one_minus_beta2: Any
    inv_root_bias_correction2: Any
    eps: Any
    step_size: Any
    decay: Any
    decay_projected: Any
    delta: Any
    factor: Any
    nesterov: Any
    project_buffer: Any


@dataclass
class Tables:
    """What a launch reads: ``weights`` int64 (tensors, fields), ``programs`` int32 (all, 3).

    ``parts`` int64 (tensors, 2): a :class:`Part` of each tensor; None where none has one.
    ``measured`` int64 (tensors, 4): a :class:`Measured` of each; None where there are no
    statistics.
    ``finishers`` int32 (all, 3): the programs of the launch that finishes them, all helpers.
    ``pieces`` int32 (all, 2): tensor and span of each program that squares gradients.
    """

    weights: Tensor
    programs: Tensor
    parts: Tensor | None
    measured: Tensor | None
    finishers: Tensor
    pieces: Tensor
    aligned: list[bool]
    shapes: int
    scratch_size: int
    words_size: int


def build(slots: list[Slot], moments: tuple[str, ...], block_size: int, span: int) -> Tables:
    """Tables for ``slots``, all of one dtype; none of them is empty but for empty parts."""
    weights: list[Weight] = []
    no_rows = torch.empty((0, 3), dtype=torch.int64, device="cpu")
    rows, order, finishers = (
        [no_rows],
        [torch.empty(0, dtype=torch.int64, device="cpu")],
        [no_rows],
    )
    measured = _measured(slots)
    scratch = position = occurring = 0
    words = WORDS  # those of the launch: the first counts the programs that have left
    for index, slot in enumerate(slots):
        weight, width = _weight(slot, moments, block_size, span)
        weights.append(weight._replace(scratch=scratch, words=words))
        if weight.shared or measured is not None:
            scratch += 2 * weight.rows + SLOT_FIELDS * weight.tiles + 1
            scratch += STAT_SLOT_FIELDS * weight.tiles if measured is not None else 0
            words += WORDS
        tiles = torch.arange(weight.tiles, device="cpu")
        shapes = torch.full_like(tiles, 2 * (width.bit_length() - 1) + weight.aligned)
        if weight.aligned and weight.cols * slot.param.element_size() % 16:
            shapes[-1] -= 1  # The end of a single row: the last vector would reach past it.
        for shape in (int(shapes[0]), int(shapes[-1])):
            occurring |= 1 << shape
        rows.append(_program_rows(index, shapes))
        order.append(2 * (position + tiles))
        position += weight.tiles
        helpers = torch.full((weight.helpers,), HELPER, device="cpu")
        if slot.shard is None:
            rows.append(_program_rows(index, helpers))
            order.append(torch.full_like(helpers, 2 * (position + HELPER_LAG) - 1))
        else:
            finishers.append(_program_rows(index, helpers))
    programs = torch.cat(rows)[torch.cat(order).argsort(stable=True)].to(torch.int32)
    return Tables(
        torch.tensor(weights, dtype=torch.int64, device="cpu"),
        programs,
        _parts(slots),
        measured,
        torch.cat(finishers).to(torch.int32),
        _pieces([weight.rows * weight.cols for weight in weights], span),
        [bool(weight.aligned) for weight in weights],
        occurring,
        scratch,
        words,
    )


def _program_rows(index: int, shapes: Tensor) -> Tensor:
    """Tensor, number and shape of each program for one tensor."""
    own = torch.arange(len(shapes), device="cpu")
    return torch.stack((torch.full_like(own, index), own, shapes), dim=1)


def _parts(slots: list[Slot]) -> Tensor | None:
    """The table of parts, if there are any."""
    if all(slot.shard is None for slot in slots):
        return None
    parts = [_part(slot.shard) for slot in slots]
    return torch.tensor(parts, dtype=torch.int64, device="cpu")


def _part(shard: Shard | None) -> Part:
    if shard is None:
        return Part(0, 0)
    row_sums = 0 if shard.row_sums is None else shard.row_sums.data_ptr()
    return Part(shard.sums.data_ptr(), row_sums)


def _measured(slots: list[Slot]) -> Tensor | None:
    """The table of what is measured, if anything is."""
    if not any(slot.measured for slot in slots):
        return None
    rows = [_measured_row(slot) for slot in slots]
    return torch.tensor(rows, dtype=torch.int64, device="cpu")


def _measured_row(slot: Slot) -> Measured:
    param, shard = slot.param, slot.shard
    numel = param.numel() if shard is None else shard.numel
    length = numel
    if measures_rows(slot.group["projection"], param.dim()):
        length = numel // param.shape[0] if shard is None else shard.row_length
    sums = max_cosine = 0
    if shard is not None and shard.stats is not None and shard.max_cosine is not None:
        sums, max_cosine = shard.stats.data_ptr(), shard.max_cosine.data_ptr()
    stats = slot.state["stats"].data_ptr() if slot.measured else 0
    return Measured(stats, sums, max_cosine, _bits(1 / math.sqrt(length)))


def _pieces(numels: list[int], span: int) -> Tensor:
    """Tensor and number of each piece of ``span`` elements."""
    counts = torch.tensor([_ceil_div(numel, span) for numel in numels], device="cpu")
    tensor = torch.repeat_interleave(torch.arange(len(numels), device="cpu"), counts)
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    number = torch.arange(len(tensor), device="cpu") - first
    return torch.stack((tensor, number), dim=1).to(torch.int32)


def _weight(slot: Slot, moments: tuple[str, ...], block_size: int, span: int) -> tuple[Weight, int]:
    """The row of one tensor, and the width of its blocks (1: spans)."""
    param, shard = slot.param, slot.shard
    numel, itemsize = param.numel(), param.element_size()
    mode = MODES[slot.group["projection"]] if param.dim() > 1 else OFF
    rows = param.shape[0] if mode != OFF else 1
    cols = numel // max(rows, 1)
    width = _width(cols, 16 // itemsize, block_size) if mode != OFF else 1
    spans = max(_ceil_div(cols, span), 1) if width == 1 else 1
    tile_rows = block_size // width if width > 1 else 1
    tiles = spans * _ceil_div(rows, tile_rows)
    if shard is None:
        row_length, whole_numel, rows_are_split = cols, numel, False
    else:
        tiles = max(tiles, 1)  # an empty part has one to say that it is there
        row_length, whole_numel = shard.row_length, shard.numel
        rows_are_split = shard.row_sums is not None
    in_tiles = tiles > 1 or shard is not None
    shared = in_tiles and (
        mode in (LAYER, AUTO) or (mode == CHANNEL and (spans > 1 or rows_are_split))
    )
    per_helper = TILES_PER_HELPER if mode == AUTO and itemsize > 2 else DEFERRED_TILES_PER_HELPER
    m, v = slot.state[moments[0]], slot.state[moments[-1]]
    # Gradients move from step to step: a plan is made anew when one comes to lie otherwise.
    tensors = [param, m, v] if slot.grad is None else [param, m, v, slot.grad]
    rows_aligned = cols * itemsize % 16 == 0 or (rows == 1 and width == 1)
    weight = Weight(
        p=param.data_ptr(),
        m=m.data_ptr(),
        v=v.data_ptr(),
        view=slot.state["view"].data_ptr() if mode == AUTO else 0,
        rows=rows,
        cols=cols,
        spans=spans,
        tile_rows=tile_rows,
        tiles=tiles,
        helpers=min(_ceil_div(tiles, per_helper), HELPER_LAG) if shared or shard is not None else 0,
        mode=mode,
        shared=int(shared),
        # The gradient of an empty part has an address that stands for none.
        aligned=int(numel > 0 and rows_aligned and all(t.data_ptr() % 16 == 0 for t in tensors)),
        scratch=0,
        words=0,
        channel_root=_bits(0.0 if rows_are_split else 1 / math.sqrt(row_length)),
        layer_root=_bits(1 / math.sqrt(whole_numel)),
    )
    return weight, width


def _width(cols: int, least: int, block_size: int) -> int:
    """The width of a block for rows of ``cols`` elements; 1 where they are longer than a block."""
    return next((width for width in WIDTHS if least <= width <= block_size and cols <= width), 1)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _bits(number: float) -> int:
    """The float64 as the int64 of the same bits, to share a table with addresses."""
    return int(struct.unpack("<q", struct.pack("<d", number))[0])
