"""docs/study.md, made from the report alone."""

from __future__ import annotations

from typing import Any


def render(report: dict[str, Any]) -> str:
    """The page."""
    return f"# {report['settings']['data']}\n"
