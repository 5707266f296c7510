"""The backend "emulated": the CUDA step, on CPU tensors, through the emulation."""

from __future__ import annotations

import ctypes
import functools
import random
from types import ModuleType

import build
from adamp_fused._backend import BACKENDS
from adamp_fused._native import NativeBackend

NAME = "emulated"


@functools.cache
def _module() -> ModuleType:
    return build.extension()


def set_device(seed: int, blocks: int = 4, resident: int = 3) -> None:
    """Say how the next launches are scheduled: blocks of a launch, and how many run at a time."""
    library = ctypes.CDLL(_module().__file__)
    library.emulation_set_device(ctypes.c_uint64(seed), blocks, resident)


def register() -> None:
    """Build the module if it has changed, and add the backend (after all that users have)."""
    if NAME in BACKENDS:
        return
    BACKENDS[NAME] = NativeBackend(NAME, "cpu", executor="cuda", extension=_module())
    set_device(seed=random.randrange(2**32))
