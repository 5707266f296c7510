"""What the Triton kernel is compiled with: the same for a launch and ahead of time."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from adamp_fused._methods import Method
from adamp_fused.backends.triton import tables

#: Threads of a program, in warps of 32 or 64: 16 bytes of a block each, no more than twice that.
THREADS = 256
#: Registers of a thread on CUDA, so that two programs fit on an SM whatever shapes occur
#: (ahead of time it takes 111 to 128 for float32, without spills).
MAX_REGISTERS = 128
#: How often a helper polls for its tensor's decision, at something like a microsecond each time.
#: It need not see it: that only leaves more to the others.
POLLS = 2000


class Hardware(NamedTuple):
    """What code is made for: "cuda", "hip", or "cpu" for the interpreter; threads of a warp."""

    kind: str
    warp: int


def hardware(device: torch.device) -> Hardware:
    """What ``device`` needs code for."""
    if device.type == "cpu":
        return Hardware("cpu", 1)
    if torch.version.hip is None:
        return Hardware("cuda", 32)
    return Hardware("hip", int(torch.cuda.get_device_properties(device).warp_size))


def real(dtype: torch.dtype) -> torch.dtype:
    """The type of the arithmetic on what is stored as ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def block_size(dtype: torch.dtype) -> int:
    """Elements a program holds at once: a float64 takes two registers."""
    return tables.BLOCK_SIZE // (2 if dtype == torch.float64 else 1)


def span(dtype: torch.dtype) -> int:
    """Elements of a long row that are one tile."""
    return block_size(dtype) * tables.BLOCKS_PER_SPAN


def compile_options(
    method: type[Method],
    dtype: torch.dtype,
    shapes: int,
    target: Hardware,
    controlled: bool = False,
) -> dict[str, Any]:
    """Constants of the kernel and options of the compiler, as a launch takes them together."""
    from adamp_fused.backends.triton.kernels import TYPES  # imports Triton

    # On AMD a wavefront fences for itself, which takes knowing them.
    amd = target.kind == "hip"
    # ROCm knows no limit to the registers.
    limit = {} if amd else {"maxnreg": MAX_REGISTERS}
    return {
        "METHOD": tables.METHODS[method.name],
        "DTYPE": TYPES[str(dtype)],
        "SHAPES": shapes,
        "BLOCK_SIZE": block_size(dtype),
        "SPAN": span(dtype),
        "POLLS": 0 if target.kind == "cpu" else POLLS,
        "LANES": THREADS if amd else 0,
        "WARP": target.warp if amd else 1,
        "CONTROLLED": controlled,
        "num_warps": THREADS // target.warp,
        "num_stages": 1,
        # Every product rounded, in every version: a row must come out the same wherever in the
        # kernel it is computed.
        "enable_fp_fusion": False,
        **limit,
    }


def finish_options(given: dict[str, Any]) -> dict[str, Any]:
    """The same for the kernel that ends a step of parts; ``given``: for the one before it."""
    return {name: value for name, value in given.items() if name != "POLLS"}


def norm_options(dtype: torch.dtype, target: Hardware) -> dict[str, Any]:
    """The same for the kernel that finds the norm of the gradients."""
    from adamp_fused.backends.triton.kernels import TYPES  # imports Triton

    amd = target.kind == "hip"
    return {
        "DTYPE": TYPES[str(dtype)],
        "REAL": TYPES[str(real(dtype))],
        "BLOCK_SIZE": block_size(dtype),
        "SPAN": span(dtype),
        "LANES": THREADS if amd else 0,
        "WARP": target.warp if amd else 1,
        "num_warps": THREADS // target.warp,
        "num_stages": 1,
        "enable_fp_fusion": False,
    }
