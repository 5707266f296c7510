"""The files of the CUDA step, by their names in csrc."""

from __future__ import annotations

KERNEL = "cuda/kernel.cuh"
FETCH = "cuda/fetch.cuh"
TENSOR = "cuda/tensor_work.cuh"
LOOPS = "cuda/span_work.cuh"
SUMS = "cuda/row_sums.cuh"
THIN = "cuda/thin_rows.cuh"
SHARED = "cuda/shared_memory.cuh"
SPAN = "cuda/span.cuh"
TILE = "cuda/tile.cuh"
METHODS = "core/methods.h"
PROJECTION = "core/projection.h"
EARLY = "core/speculation.h"
ARGS = "cuda/kernel_args.h"
HOST = "cuda/executor.cpp"
PLAN = "core/tiles.h"

DEVICE_CODE = (KERNEL, FETCH, TENSOR, LOOPS, SUMS, THIN, SPAN, TILE, METHODS, PROJECTION, EARLY)
TABLES = (ARGS, SHARED, HOST, PLAN)  # what the host makes for it, and where it keeps its work
