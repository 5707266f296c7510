"""Compile the Triton kernels for a GPU that need not be there; print what came of it as JSON.

A program of its own: the tests have Triton's interpreter, under which nothing compiles.

    python tests/kernels/triton_ahead.py cuda:90
    python tests/kernels/triton_ahead.py cuda:90 measured    # what stats=True launches
"""

import inspect
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from adamp_fused._methods import SGDP, AdamP, Method
from adamp_fused.backends.protocol import Slot
from adamp_fused.backends.triton import options, stages, tables
from adamp_fused.backends.triton.kernels import step_kernel
from adamp_fused.backends.triton.norms import norm_kernel
from adamp_fused.backends.triton.parts import finish_kernel
from bench.lib.workloads import WORKLOADS

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
#: A model of even matrices in every type; one with rows of all lengths, some of them no whole
#: number of vectors, in one type of each size that takes the time; and rows of a few elements.
MODELS = {
    "vit-b16": DTYPES,
    "resnet18": (torch.float32, torch.bfloat16),
    "thin": (torch.float32, torch.bfloat16),
}
#: Both halves of a step of tensors in parts: the first differs little from that of whole ones.
HALVES = (
    ("first", "vit-b16", torch.float32),
    ("first", "vit-b16", torch.float64),
    *(("second", "vit-b16", dtype) for dtype in DTYPES),
    ("second", "resnet18", torch.bfloat16),
)
#: With statistics.
MEASURED = (
    *(("", "vit-b16", dtype) for dtype in DTYPES),
    ("", "resnet18", torch.float32),
    ("first", "vit-b16", torch.float32),
    ("second", "vit-b16", torch.float32),
)
THIN = tuple(torch.Size((20_000, cols)) for cols in (1, 2, 3, 4, 5, 8, 9, 16))
TABLES = {"programs": "*i32", "weights": "*i64", "step_table": "*i64", "words": "*i32"}
#: Where weights, gradients and moments are read and written, and nothing else is.
ACCESSES = {"load": stages.load_real, "store": stages.store_real}
PTX = {"load": "ld", "store": "st"}


def shapes_of(model: str, dtype: torch.dtype) -> int:
    """SHAPES of the launch for a model, whose tensors take no memory here."""
    slots = []
    own = THIN if model == "thin" else [w.shape for w in WORKLOADS[model]().weights]
    for shape in own:
        p = torch.empty(shape, dtype=dtype, device="meta")
        state = {"exp_avg": p, "exp_avg_sq": p, "view": p}
        slots.append(Slot(p, p, state, {"projection": "auto"}, 0))
    block_size, span = options.block_size(dtype), options.span(dtype)
    return tables.build(slots, ("exp_avg", "exp_avg_sq"), block_size, span).shapes


def build(
    target: GPUTarget,
    method: type[Method],
    dtype: torch.dtype,
    shapes: int,
    controlled: bool,
    half: str = "",
    measured: bool = False,
) -> Any:
    """Compile with what a launch passes; ``half``: of a step that has tensors in parts."""
    hardware = options.Hardware(target.backend, target.warp_size)
    given = options.compile_options(method, dtype, shapes, hardware, controlled)
    kernel = step_kernel
    if half == "second":
        kernel, given = finish_kernel, options.finish_options(given)
    names = kernel.arg_names
    constants = {name: given.pop(name) for name in names if name in given}
    real = {torch.float32: "*fp32", torch.float64: "*fp64"}[options.real(dtype)]
    pointers = TABLES | {"scratch": real}
    for table, is_there in (("parts", bool(half)), ("measured", measured)):
        if is_there:
            pointers[table] = "*i64"
        else:
            constants[table] = None
    signature = dict.fromkeys(names, "constexpr") | pointers
    # A launch sees from their addresses that the allocator has aligned the tables.
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in pointers}
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(source, target=target, options=given)


def build_norm(target: GPUTarget, dtype: torch.dtype) -> Any:
    """Compile the kernel of the norm."""
    given = options.norm_options(dtype, options.Hardware(target.backend, target.warp_size))
    names = norm_kernel.arg_names
    constants = {name: given.pop(name) for name in names if name in given}
    pointers = TABLES | {"partial": "*fp64", "result": "*fp64", "norm": "*fp32", "pieces": "*i32"}
    signature = dict.fromkeys(names, "constexpr")
    signature |= {name: kind for name, kind in pointers.items() if name in names}
    signature["is_first"] = "i32"
    source = ASTSource(norm_kernel, signature, constants)
    return triton.compile(source, target=target, options=given)


def widths(text: str) -> dict[str, dict[int, int]]:
    """How many loads and stores of weights, gradients and moments there are, by their bytes.

    The debug lines of PTX and of AMD's assembly say which source line an instruction belongs to.
    """
    files = dict(re.findall(r"^\s*\.file\s+(\d+)\s+.*?([\w.]+)\"$", text, re.MULTILINE))
    kinds = {}
    for kind, function in ACCESSES.items():
        source, start = inspect.getsourcelines(function.fn)
        kinds |= dict.fromkeys(range(start, start + len(source)), kind)
    found: dict[str, Counter[int]] = {kind: Counter() for kind in ACCESSES}
    kind, held = None, False
    for line in text.splitlines():
        if "inline asm" in line:
            held = "begin" in line  # LLVM counts its lines on from the source's.
        elif not held and (place := re.match(r"\s*\.loc\s+(\d+)\s+(\d+)", line)):
            ours = files[place[1]] == Path(stages.__file__).name
            kind = kinds.get(int(place[2])) if ours else None
        if kind and (size := _bytes(line, kind)):
            found[kind][size] += 1
    return {kind: dict(sizes) for kind, sizes in found.items()}


def _bytes(line: str, kind: str) -> int:
    """Bytes a thread moves to or from global memory by an instruction; 0 for any other."""
    if ptx := re.search(rf"\b{PTX[kind]}\.global\S*?(?:\.v(\d))?\.[bfus](\d+)\s", line):
        return int(ptx[1] or 1) * int(ptx[2]) // 8
    if amd := re.search(rf"\b(?:global|buffer|flat)_{kind}_(?:(d?)wordx?(\d?)|\w*short)", line):
        return 4 * int(amd[2] or 1) if amd[1] else 2
    return 0


def nvidia_resources(cubin: bytes) -> dict[str, int]:
    """Registers of a thread and its bytes of local memory, from the machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        output = subprocess.check_output([tool, "-res-usage", file.name], text=True)
    usage = {name: int(n) for name, n in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", output)}
    return {"registers": usage["REG"], "spilled": usage["STACK"] + usage["LOCAL"]}


def amd_resources(text: str) -> dict[str, int]:
    """The same from the notes in the assembly, registers that spill into others included."""
    notes = {name: int(n) for name, n in re.findall(r"^\s*\.(\w+):\s+(\d+)$", text, re.MULTILINE)}
    spills = ("private_segment_fixed_size", "sgpr_spill_count", "vgpr_spill_count")
    return {"registers": notes["vgpr_count"], "spilled": sum(notes[name] for name in spills)}


def report(
    target: GPUTarget,
    model: str,
    method: type[Method],
    dtype: torch.dtype,
    controlled: bool,
    half: str = "",
    measured: bool = False,
) -> dict[str, Any]:
    """Compile one variant, and look at the result."""
    kernel = build(target, method, dtype, shapes_of(model, dtype), controlled, half, measured)
    text = kernel.asm["ptx" if target.backend == "cuda" else "amdgcn"]
    found: dict[str, Any] = {"model": model, "half": half}
    found |= {"adam": method is AdamP, "dtype": str(dtype).removeprefix("torch.")}
    return found | resources(target, kernel) | {"widths": widths(text)}


def resources(target: GPUTarget, kernel: Any) -> dict[str, int]:
    """Registers and what is spilled."""
    if target.backend == "cuda":
        return nvidia_resources(kernel.asm["cubin"])
    return amd_resources(kernel.asm["amdgcn"])


def main() -> None:
    """Compile every variant for the target that is named."""
    kind, arch = sys.argv[1].split(":")
    target = GPUTarget(kind, int(arch), 32) if kind == "cuda" else GPUTarget(kind, arch, 64)
    if "measured" in sys.argv[2:]:
        for half, model, dtype in MEASURED:
            for method in (AdamP, SGDP):
                found = report(target, model, method, dtype, False, half, measured=True)
                print(json.dumps(found), flush=True)
        return
    for model, dtypes in MODELS.items():
        for dtype in dtypes:
            for method in (AdamP, SGDP):
                print(json.dumps(report(target, model, method, dtype, False)), flush=True)
    for half, model, dtype in HALVES:
        for method in (AdamP, SGDP):
            print(json.dumps(report(target, model, method, dtype, False, half)), flush=True)
    # Where the device has a say in a step.
    for method in (AdamP, SGDP):
        print(json.dumps(report(target, "vit-b16", method, torch.float32, True)), flush=True)
    for dtype in DTYPES:
        found = {"norm": str(dtype).removeprefix("torch.")}
        print(json.dumps(found | resources(target, build_norm(target, dtype))), flush=True)


if __name__ == "__main__":
    main()
