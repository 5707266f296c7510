"""The backend "emulated": the CUDA step on CPU tensors, through the emulation.

The extension module is built when the first test asks for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from adamp_fused.backends.native import NativeBackend
from adamp_fused.backends.registry import BACKENDS
from kernels.emulation import build
from parity.cases import Shape
from parity.gradients import SCRIPT
from parity.targets import TARGETS, Target

NAME = "emulated"


class EmulatedBackend(NativeBackend):
    """The executor "cuda" of the emulation's extension module."""

    def __init__(self) -> None:
        super().__init__(NAME, "cpu", executor="cuda", extension=None)

    def unavailable(self, device: torch.device, capturable: bool) -> str | None:
        """Why not; builds the module if it has changed."""
        if self._extension is None:
            if shutil.which(build.compiler()) is None:
                return f"no C++ compiler ({build.compiler()})"
            self._extension = build.extension()
        return super().unavailable(device, capturable)

    def set_device(self, seed: int = 0, blocks: int = 4, resident: int = 1) -> None:
        """Say how the next launches are scheduled: blocks at most, and how many run at a time."""
        self._library().emulation_set_device(ctypes.c_uint64(seed), blocks, resident)

    def staged_copies(self) -> int:
        """How many steps so far had more values than a launch carries."""
        count = self._library().emulation_staged_copies
        count.restype = ctypes.c_int64
        return int(count())

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Let copies and launches go into a graph, of which there is one at a time."""
        self._library().emulation_begin_capture()
        try:
            yield
        finally:
            self._library().emulation_end_capture()

    def replay(self) -> int:
        """Run the graph once; how many copies and launches it has."""
        return int(self._library().emulation_replay())

    def _library(self) -> ctypes.CDLL:
        assert self._extension is not None
        return ctypes.CDLL(self._extension.__file__)


@dataclass(frozen=True)
class EmulatedTarget(Target):
    """All shapes; fewer steps, each outcome changing once."""

    lr_stays_on_device: bool = True

    @property
    def script(self) -> tuple[int, ...]:
        """Outcomes of the steps to run."""
        return SCRIPT[:7]

    def pick(self, wanted: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Leave out nothing."""
        return wanted


def register() -> None:
    """Add the backend, after all that users have, and a target of the parity tests."""
    BACKENDS[NAME] = EmulatedBackend()
    TARGETS.append(EmulatedTarget(NAME, NAME, "cpu"))
