"""Indices, offsets and alignment: which element, row or piece is touched."""

from __future__ import annotations

from kernels.emulation.mutations.mutation import Mutation
from kernels.emulation.sources import (
    DECISION,
    HOST,
    LOOPS,
    PRODUCER,
    SPAN,
    SUMS,
    TENSOR,
    THIN,
    TILE,
)

MUTATIONS = (
    Mutation(
        "tail one short",
        SPAN,
        "if (thread_index() < singles) {",
        "if (thread_index() < singles - 1) {",
    ),
    Mutation(
        "one vectorized access too many",
        SPAN,
        "const int packs = (count - head) / kWidth;",
        "const int packs = (count - head + kWidth - 1) / kWidth;",
    ),
    Mutation(
        "head ignored",
        SPAN,
        "span.head = before < span.count ? before : span.count;",
        "span.head = 0;",
    ),
    Mutation(
        "gradient's alignment ignored",
        SPAN,
        "span.vectorized = tensor.vectorized != 0 && (p -"
        " reinterpret_cast<uintptr_t>(span.g)) % 16 == 0;",
        "span.vectorized = tensor.vectorized != 0;",
    ),
    Mutation("all accesses narrow", SPAN, "if (!vectorized) {", "if (true) {"),
    Mutation(
        "32-bit element index",
        SPAN,
        "const int64_t offset = tile.row_begin * tensor.info.cols + tile.col_begin;",
        "const int32_t offset = static_cast<int32_t>(tile.row_begin * tensor.info.cols +"
        " tile.col_begin);",
    ),
    Mutation(
        "32-bit row index",
        TENSOR,
        "const RowRecord<S> record = record_of(tile.row_begin + row);",
        "const RowRecord<S> record = record_of(static_cast<int32_t>(tile.row_begin + row));",
    ),
    Mutation(
        "32-bit offset of records",
        DECISION,
        "(launch.scratch + given.tensor.records)",
        "(launch.scratch + static_cast<int32_t>(given.tensor.records))",
    ),
    Mutation(
        "swapped row index",
        TENSOR,
        "const RowRecord<S> record = record_of(tile.row_begin + row);",
        "const RowRecord<S> record = record_of(row);",
    ),
    Mutation(
        "asks for the next tile's end",
        PRODUCER,
        "const int bytes = static_cast<int>((tile.row_end - tile.row_begin) *",
        "const int bytes = static_cast<int>((tile.row_end + 1 - tile.row_begin) *",
    ),
    Mutation(
        "32-bit offset of what is asked for",
        PRODUCER,
        "const int64_t offset = (tile.row_begin * info.cols + tile.col_begin) * size;",
        "const int32_t offset = static_cast<int32_t>((tile.row_begin * info.cols +"
        " tile.col_begin) * size);",
    ),
    Mutation(
        "row not advanced in a vectorized access",
        LOOPS,
        "++row; row_end += cols; active",
        "row_end += cols; active",
    ),
    Mutation(
        "row not advanced in a vectorized access of a fix-up pass",
        LOOPS,
        "++row; row_end += cols; } const SharedUpdate",
        "row_end += cols; } const SharedUpdate",
    ),
    Mutation(
        "packs put where they are not aligned",
        TILE,
        "i + (-span.head & (kWidth - 1));",
        "i + 0 * span.head;",
    ),
    Mutation(
        "halves of a pack swapped in one way only",
        TILE,
        "const Vector16 vector = load_shared_vector(&values[at(span, i)]);",
        "const Vector16 vector = load_shared_vector(&values[i + (-span.head & (kWidth - 1))]);",
        all_types=True,
    ),
    Mutation(
        "tensor's sums left in the first row's place",
        DECISION,
        "note(outcome); RowRecord<S>& whole = records()[0];",
        "note(outcome); RowRecord<S>& whole = records()[1];",
    ),
    Mutation(
        "no space for the tensor's sums",
        HOST,
        "(1 + (keeps_rows ? info.rows : 0)) *",
        "(keeps_rows ? info.rows : 0) *",
    ),
    Mutation(
        "thin rows' last column left out",
        THIN,
        "k < cols; ++k",
        "k < cols - 1; ++k",
    ),
    Mutation(
        "thin rows' columns not wrapped around",
        THIN,
        "col = col + 1 < cols ? col + 1 : 0;",
        "col = col + 1;",
    ),
    Mutation(
        "one row too many for the warps' sums",
        SUMS,
        "if (rows <= warps) {",
        "if (rows <= warps + 2) {",
    ),
    Mutation(
        "half of a warp not summed",
        SUMS,
        "sums = lane_sums(sums, kWarpSize);",
        "sums = lane_sums(sums, kWarpSize / 2);",
    ),
    Mutation(
        "partial sums added twice",
        SUMS,
        "col < cols; col += step) add_to",
        "col < cols; col += step - 1) add_to",
    ),
    Mutation(
        "rows joined in the first round only",
        DECISION,
        "slot_sums((first + row) * pieces + i)",
        "slot_sums(row * pieces + i)",
        all_types=True,
    ),
)
