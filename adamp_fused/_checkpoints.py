"""What a loaded checkpoint has of other optimizers: what can be used is, the rest is told.

A state dict of this package, of ``adamp`` and of timm passes without a word. From a flattened
distributed checkpoint torch itself reads every option that a group has; what an older one does not
name is added beforehand: ``get_optimizer_state_dict(model, optimizer, options=flat) | saved``.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from adamp_fused._methods import Method
from adamp_fused._numbers import is_number
from adamp_fused._warnings import warn

#: Keys of other optimizers for the same tensor.
SAME_AS = {"momentum": "momentum_buffer"}  # torch.optim.SGD
#: How a step is made, not what it does: of no account to an optimizer that loads it.
IMPLEMENTATION = ("fused", "foreach", "differentiable", "backend")

Groups = list[dict[str, Any]]


def keep_implementation(groups: Groups, before: Groups) -> None:
    """Let each loaded group say of this what the optimizer's own group said."""
    for group, own in zip(groups, before, strict=False):
        for name in IMPLEMENTATION:
            group.pop(name, None)
            if name in own:
                group[name] = own[name]


def adapt(groups: Groups, state: dict[Tensor, Any], method: type[Method], optimizer: str) -> None:
    """Put the loaded state under this optimizer's keys; warn of what it has no use for, or lacks.

    Args:
        groups: as loaded, with the optimizer's parameters.
        state: as loaded, by parameter; changed in place.
        method: whose state it has to be.
        optimizer: its name.
    """
    moments, counts = method.moments, method.counts()
    needed = (*moments, *(("step",) if method.counts_steps else ()))
    unused: dict[str, None] = {}  # as an ordered set
    missing: dict[str, None] = {}
    for group in groups:
        # apex keeps it there, where it would not advance.
        has_count = method.counts_steps and is_number(group.get("step"))
        count = float(group.pop("step")) if has_count else None
        for param in group["params"]:
            entry = state.get(param)
            if not isinstance(entry, dict):
                continue  # the next step says what is wrong, if there is a gradient
            _rename(entry, (*moments, *counts))
            if entry and count is not None:
                entry.setdefault("step", count)
            if entry:
                unused |= dict.fromkeys(key for key in entry if key not in (*moments, *counts))
                missing |= dict.fromkeys(key for key in needed if key not in entry)
    _tell(list(unused), list(missing), optimizer)


def _rename(entry: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Take over what goes by another name; drop what says that there is nothing.

    A flattened distributed checkpoint gives ``{}`` for an absent key, SGD None for no buffer.
    """
    for key, other in SAME_AS.items():
        if key in keys and other in entry:
            entry.setdefault(key, entry.pop(other))
            if entry[key] is None:
                del entry[key]
    for key in keys:
        if isinstance(entry.get(key), dict) and not entry[key]:
            del entry[key]


def _tell(unused: list[str], missing: list[str], optimizer: str) -> None:
    has = f"has {_quoted(unused)}, which {optimizer} does not use" if unused else ""
    lacks = f"lacks {_quoted(missing)}, which will start from zero" if missing else ""
    if unused or missing:
        warn(
            f"the loaded optimizer state {' and '.join(filter(None, (has, lacks)))}; was it saved "
            "by another optimizer?"
        )


def _quoted(keys: list[str]) -> str:
    return ", ".join(map(repr, keys))
