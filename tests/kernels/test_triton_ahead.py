"""The Triton kernel, compiled for GPUs that need not be there: vectorized accesses, no spills."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from adamp_fused.backends.triton import options

# One for `make test`; each takes most of a minute.
TARGETS = (
    pytest.param("cuda:80", marks=pytest.mark.proof),
    "cuda:90",
    pytest.param("hip:gfx942", marks=pytest.mark.proof),
)
#: Bytes a thread may spill: float64 AdamP holds twice the registers, and what is left are a few
#: numbers that every thread has.
SPILLS = {
    ("float64", True, ""): 56,  # 40 without the order for what is not finite
    ("float64", True, "first"): 64,
    ("float64", True, "second"): 24,
}
#: The same with statistics, for which spans hold one sum more.
MEASURED_SPILLS = {
    "cuda": {("float64", True, ""): 72, ("bfloat16", True, ""): 96, ("float16", True, ""): 72},
    # Scalar registers, with rows of all lengths.
    "hip": {("float32", True, ""): 3, ("float32", False, ""): 4},
}
#: On AMD, where the compiler is told no limit: two programs of 4 wavefronts on each of 4 SIMDs.
REGISTERS = {"cuda": options.MAX_REGISTERS, "hip": 256}
WIDEST = 16


@cache
def compiled(target: str, folder: Path, *what: str) -> list[dict[str, Any]]:
    """What compiling for the target came to; without the interpreter, and with an empty cache."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_")}
    environment |= {"TRITON_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    program = Path(__file__).with_name("triton_ahead.py")
    done = subprocess.run(
        [sys.executable, program, target, *what], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    limit = REGISTERS[target.split(":")[0]]
    return [json.loads(line) | {"limit": limit} for line in done.stdout.splitlines()]


@pytest.fixture(scope="module", params=TARGETS)
def everything(request: pytest.FixtureRequest, tmp_path_factory: Any) -> list[dict[str, Any]]:
    """Every variant that is compiled for a target, with the limit on its registers."""
    pytest.importorskip("triton", reason="Triton is not installed")
    return compiled(request.param, tmp_path_factory.mktemp("triton"))


@pytest.fixture(scope="module")
def variants(everything: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every variant of the step."""
    return [variant for variant in everything if "norm" not in variant]


def test_norm(everything: list[dict[str, Any]]) -> None:
    """The kernel of the norm compiles for every type; twice as many programs fit as of a step."""
    norms = [variant for variant in everything if "norm" in variant]
    assert {norm["norm"] for norm in norms} == {"float32", "float64", "bfloat16", "float16"}
    for norm in norms:
        assert norm["spilled"] == 0, norm
        assert norm["registers"] <= norm["limit"] // 2, norm


def test_every_variant_compiles(variants: list[dict[str, Any]]) -> None:
    """Both methods in every type; so does what ends the step of tensors in parts."""
    dtypes = ("float32", "float64", "bfloat16", "float16")
    for half in ("", "second"):
        found = {(v["dtype"], v["adam"]) for v in variants if v["half"] == half}
        assert found == {(dtype, adam) for dtype in dtypes for adam in (True, False)}


def test_no_spills(variants: list[dict[str, Any]]) -> None:
    """Registers suffice, and two programs fit on a multiprocessor."""
    check_registers(variants, SPILLS)


def check_registers(
    variants: list[dict[str, Any]], spills: dict[tuple[str, bool, str], int]
) -> None:
    """No more registers than the limit, and no more spills than are known."""
    for variant in variants:
        allowed = spills.get((variant["dtype"], variant["adam"], variant["half"]), 0)
        assert variant["spilled"] <= allowed, variant
        assert variant["registers"] <= variant["limit"], variant


def test_wide_accesses(variants: list[dict[str, Any]]) -> None:
    """Aligned weights, gradients and moments move 16 bytes at a time, and only others move less.

    Exempt are 16-bit elements that are come back to later, which move 8: their reads of p, m, v and
    g, and their stores of p and m. The second half of a step does nothing but come back.
    """
    for variant in variants:
        if variant["model"] == "thin":  # Its rows are shorter than a vectorized access, or nearly.
            continue
        adam, itemsize = variant["adam"], getattr(torch, variant["dtype"]).itemsize
        for kind, tensors in (("load", 3 + adam), ("store", 2)):
            counts = {int(size): count for size, count in variant["widths"][kind].items()}
            sweeps = 2 if variant["half"] != "second" else 0
            if itemsize == 2:
                assert counts.pop(8) == tensors, variant
                assert counts.pop(WIDEST, 0) >= sweeps * tensors, variant
            else:
                assert counts.pop(WIDEST) >= (sweeps + 1) * tensors, variant
            if variant["model"] == "resnet18":  # It has rows that are not aligned.
                assert counts.pop(itemsize) > 0, variant
            assert not counts, variant


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("cuda:90", marks=pytest.mark.proof),
        pytest.param("cuda:80", marks=pytest.mark.nightly),
        pytest.param("hip:gfx942", marks=pytest.mark.nightly),
    ],
)
def test_measured(target: str, tmp_path: Path) -> None:
    """With statistics the same holds: two programs fit, and accesses are as wide."""
    pytest.importorskip("triton", reason="Triton is not installed")
    variants = compiled(target, tmp_path, "measured")
    assert {variant["half"] for variant in variants} == {"", "first", "second"}
    check_registers(variants, MEASURED_SPILLS[target.split(":")[0]])
    test_wide_accesses(variants)
