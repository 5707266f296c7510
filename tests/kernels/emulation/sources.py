"""The files of the CUDA step, by their names in csrc."""

from __future__ import annotations

KERNEL = "cuda/kernel.cuh"
PRODUCER = "cuda/producer.cuh"
NORM = "cuda/norm.cuh"
TENSOR = "cuda/tensor_work.cuh"
DECISION = "cuda/tensor_decision.cuh"
LOOPS = "cuda/span_work.cuh"
SUMS = "cuda/row_sums.cuh"
STATISTICS = "cuda/statistics.cuh"
THIN = "cuda/thin_rows.cuh"
SHARED = "cuda/shared_memory.cuh"
SPAN = "cuda/span.cuh"
TILE = "cuda/tile_buffer.cuh"
CONTROL = "core/control.h"
METHODS = "core/methods.h"
PROJECTION = "core/projection.h"
SPECULATION = "core/speculation.h"
STATS = "core/stats.h"
ARGS = "cuda/kernel_args.h"
HOST = "cuda/executor.cpp"
TILES = "core/tiles.h"

DEVICE_CODE = (
    KERNEL,
    PRODUCER,
    NORM,
    TENSOR,
    DECISION,
    LOOPS,
    SUMS,
    STATISTICS,
    THIN,
    SPAN,
    TILE,
    CONTROL,
    METHODS,
    PROJECTION,
    SPECULATION,
    STATS,
)
TABLES = (ARGS, SHARED, HOST, TILES)  # what the host makes for it, and where it keeps its work
