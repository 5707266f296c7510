"""Warnings that point at the user's line."""

from __future__ import annotations

import functools
import sys
import warnings
from types import FrameType


def warn(text: str) -> None:
    """Warn at the user's line."""
    warnings.warn(text, stacklevel=_users_level())


#: The same, once for each text.
warn_once = functools.cache(warn)


def _users_level() -> int:
    """How far up from the caller the first line is that is neither this package's nor torch's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and _package_of(frame) in ("adamp_fused", "torch"):
        level, frame = level + 1, frame.f_back
    return level


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
