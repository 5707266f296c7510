"""Parameter groups as configuration systems give them, turned into what torch keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor


def as_dicts(params: Any) -> Any:
    """``params`` with groups that are other mappings as dictionaries; torch takes the rest."""
    if isinstance(params, (Tensor, Mapping)):
        return params  # torch says what is wrong
    return [as_dict(item) for item in params]


def as_dict(group: Any) -> Any:
    """A mapping as a dictionary; a dictionary, which torch fills in, is itself."""
    return dict(group) if isinstance(group, Mapping) and not isinstance(group, dict) else group


def make_plain(options: dict[str, Any], names: Iterable[str]) -> None:
    """Replace numbers and pairs of other libraries by Python's own, which any file can keep.

    Tensors stay what they are: their owner may write into them.
    """
    for name in names:
        value = options[name]
        if name == "betas":
            kind = list if isinstance(value, list) else tuple
            options[name] = kind(map(_plain, value))
        else:
            options[name] = _plain(value)


def _plain(value: Any) -> Any:
    """What ``item()`` of a numpy number gives, or the value itself."""
    is_number = getattr(value, "shape", None) == () and not isinstance(value, Tensor)
    return value.item() if is_number else value
