"""JSON files of results, and where they are."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch

COMMITTED = Path(__file__).parents[2] / "results"

# Words of files that were written before December 2026.
_KEYS = {
    "anchor": "baseline",
    "contender": "implementation",
    "copy": "memcpy",
    "rate": "bandwidth",
    "rate_share": "bandwidth_share",
}
_CELLS = {"again": "A/A control", "rate": "bandwidth"}


def folder(out: str | None) -> Path:
    """``out``, else what the environment variable OUT names, else ``bench/results``."""
    path = Path(out or os.environ.get("OUT") or COMMITTED)
    path.mkdir(parents=True, exist_ok=True)
    return path


def device_prefix(device: torch.device) -> str:
    """First part of a result's file name."""
    return "gpu" if device.type == "cuda" else "cpu"


def write(path: Path, report: Any) -> None:
    """Write a dataclass as JSON, whole or not at all."""
    text = json.dumps(dataclasses.asdict(report), indent=1, ensure_ascii=False) + "\n"
    partial = path.with_suffix(".tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _renamed(entry: dict[str, Any]) -> dict[str, Any]:
    renamed = {_KEYS.get(key, key): value for key, value in entry.items()}
    if renamed.get("name") in _CELLS:
        renamed["name"] = _CELLS[renamed["name"]]
    return renamed


def read(path: Path) -> dict[str, Any] | None:
    """The report in ``path``, or None where there is none."""
    if not path.exists():
        return None
    text = path.read_text(encoding="utf-8")
    report: dict[str, Any] = json.loads(text, object_hook=_renamed)
    return report
