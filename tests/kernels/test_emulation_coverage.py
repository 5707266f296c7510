"""The emulated cases run every line of the device code."""

import shutil

import pytest

from kernels.emulation import build, coverage

# Lines that cannot be reached, each with its reason: file -> text of the line.
EXCEPTIONS: dict[str, set[str]] = {
    # No value of the enumeration comes there.
    "csrc/core/methods.h": {'throw std::invalid_argument("adamp_fused: an unknown method");'},
}


@pytest.mark.skipif(
    shutil.which(build.compiler()) is None or shutil.which("gcov") is None,
    reason="no C++ compiler or no gcov",
)
def test_every_line_runs() -> None:
    """Each line with code was executed, in one instantiation at least."""
    missed = {
        f"{name}:{number}: {text}"
        for name, lines in coverage.unreached().items()
        for number, text in lines.items()
        if text not in EXCEPTIONS.get(name, ())
    }
    assert not missed
