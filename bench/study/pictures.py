"""The study's pictures, made from the report alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(report: dict[str, Any], images: Path) -> None:
    """Draw the pictures into the folder ``images``."""
