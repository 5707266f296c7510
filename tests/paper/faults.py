"""Faults of the projection, planted in the reference backend one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from adamp_fused.backends import formulas as F
from adamp_fused.backends import reference

Plant = Callable[[pytest.MonkeyPatch], None]


def flipped_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """The radial part is added instead of removed."""
    original = F.radial_coefficient
    monkeypatch.setattr(F, "radial_coefficient", lambda *sums: -original(*sums))


def missing_eps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The radial part is divided by the squared norm alone."""
    original = F.radial_coefficient
    monkeypatch.setattr(F, "radial_coefficient", lambda pu, norm_p, eps: original(pu, norm_p, 0.0))


def missing_clamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """The norms in the cosine are not clamped at eps."""
    original = reference._Step._passes

    def passes(step: Any, *sums: Any) -> Any:
        group, step._group = step._group, step._group | {"eps": 0.0}
        try:
            return original(step, *sums)
        finally:
            step._group = group

    monkeypatch.setattr(reference._Step, "_passes", passes)


def _other_view(monkeypatch: pytest.MonkeyPatch, mode: str, taken: str) -> None:
    decide = reference._Step._decide

    def decided(step: Any) -> Any:
        group = step._group
        if group["projection"] == mode:
            step._group = group | {"projection": taken}
        try:
            return decide(step)
        finally:
            step._group = group

    monkeypatch.setattr(reference._Step, "_decide", decided)


def layer_for_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is scale-invariant channel-wise is projected layer-wise."""
    original = F.decide

    def outcome(every_row_passes: Any, whole_passes: Any) -> Any:
        found = original(every_row_passes, whole_passes)
        return torch.where(found == 1, 2, found)

    monkeypatch.setattr(F, "decide", outcome)
    _other_view(monkeypatch, "channel", "layer")


def channel_for_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is scale-invariant layer-wise is projected channel-wise."""
    original = F.decide

    def outcome(every_row_passes: Any, whole_passes: Any) -> Any:
        found = original(every_row_passes, whole_passes)
        return torch.where(found == 2, 1, found)

    monkeypatch.setattr(F, "decide", outcome)
    _other_view(monkeypatch, "layer", "channel")


def no_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is removed."""
    original = F.radial_coefficient
    monkeypatch.setattr(F, "radial_coefficient", lambda *sums: 0.0 * original(*sums))
