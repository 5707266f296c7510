"""Numbers as options and states have them, and checks of one that name the value and the remedy."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor


def is_number(value: Any) -> bool:
    """Whether ``value`` is a number, or a tensor or an array of one, that can be read."""
    if isinstance(value, Tensor):
        return is_one(value) and not value.is_meta
    # By its shape, whatever library an array is of.
    is_array = getattr(value, "shape", None) == ()
    return isinstance(value.item() if is_array else value, Real)


def is_one(value: Tensor) -> bool:
    """Whether ``value`` is one real element, whatever its shape and device."""
    return value.numel() == 1 and value.layout == torch.strided and not value.is_complex()


def pair(name: str, values: Any) -> tuple[Any, ...]:
    """The two values of a tuple, a list, an array, or any other sequence but a string."""
    is_sequence = hasattr(values, "__getitem__") and not isinstance(values, (str, bytes, Mapping))
    try:
        pair = tuple(values) if is_sequence else ()
    except TypeError:  # an array without dimensions
        pair = ()
    if len(pair) != 2:
        raise ValueError(
            f"{name}={values!r} must be a sequence of two numbers, for example {name}=(0.9, 0.999)"
        )
    return pair


def _number(name: str, value: Any) -> float:
    if isinstance(value, str):
        raise TypeError(
            f"{name}={value!r} is a string and must be a number, for example {name}=0.1; YAML "
            "reads 1e-3 as a string: write 1.0e-3 there, or convert it with float()"
        )
    if not is_number(value):
        raise TypeError(f"{name}={value!r} must be a number, for example {name}=0.1")
    try:
        return float(value)
    except OverflowError:
        # Its digits would fill pages, where Python prints them at all.
        raise ValueError(
            f"{name} is a number beyond the range of a float and must be within it; pass one "
            f"below {sys.float_info.max:.1e}, for example {name}=0.1"
        ) from None


def check_at_least_zero(name: str, value: Any) -> None:
    """Raise ValueError or TypeError unless ``value`` is a number of at least 0."""
    if not _number(name, value) >= 0:
        raise ValueError(f"{name}={value!r} must be at least 0; pass {name}=0 or a positive number")


def check_finite(name: str, value: Any, advice: str) -> None:
    """Raise ValueError or TypeError unless ``value`` is a finite number."""
    if not math.isfinite(_number(name, value)):
        raise ValueError(f"{name}={value!r} must be finite; {advice}")


def check_fraction(name: str, value: Any, advice: str) -> None:
    """Raise ValueError or TypeError unless ``value`` is a number in [0, 1)."""
    if not 0 <= _number(name, value) < 1:
        raise ValueError(f"{name}={value!r} must be at least 0 and below 1; {advice}")
