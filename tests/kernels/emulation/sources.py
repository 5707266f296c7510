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
FORMULAS = "formulas.h"
EARLY = "early.h"
ARGS = "cuda/kernel_args.h"
HOST = "cuda/executor.cpp"
PLAN = "work_plan.h"

DEVICE_CODE = (KERNEL, FETCH, TENSOR, LOOPS, SUMS, THIN, SPAN, TILE, FORMULAS, EARLY)
TABLES = (ARGS, SHARED, HOST, PLAN)  # what the host makes for it, and where it keeps its work
