"""What a loaded checkpoint has of other optimizers: what can be used is, the rest is told.

A state dict of this package, of ``adamp`` and of timm passes without a word, and so do those of
torch's AdamW and SGD. From a flattened distributed checkpoint torch itself reads every option that
a group has; ``docs/training.md`` says how an older one is read, which does not name them all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adamp_fused._methods import Method
from adamp_fused._numbers import is_number
from adamp_fused._warnings import warn

#: Keys of other optimizers for the same tensor.
SAME_AS = {"momentum": "momentum_buffer"}  # torch.optim.SGD
#: What wrappers keep beside it for themselves: timm's Lookahead.
OF_WRAPPERS = ("lookahead_slow_buff",)
#: How a step is made, not what it does: of no account to an optimizer that loads it.
IMPLEMENTATION = ("fused", "foreach", "differentiable", "backend")
#: Options of others that this package has not, by the value with which they ask for nothing.
FOREIGN = {
    "amsgrad": False,  # torch.optim.Adam and AdamW
    "decoupled_weight_decay": True,  # the same
    "caution": False,  # timm
}

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
    asked = _pop_foreign(groups)
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
            _rename(entry, (*moments, *counts, "stats"))
            if entry and count is not None:
                entry.setdefault("step", count)
            if entry:
                used = (*moments, *counts, "stats", *OF_WRAPPERS)
                unused |= dict.fromkeys(key for key in entry if key not in used)
                missing |= dict.fromkeys(key for key in needed if key not in entry)
    _tell(list(unused), list(missing), asked, optimizer)


def restore_stats(groups: Groups, state: dict[Tensor, Any], loaded: dict[str, Any]) -> None:
    """Put statistics back as they were saved.

    torch has given them the weights' type, in which sums and counts lose most of their digits.

    Args:
        groups: with the optimizer's parameters.
        state: as torch has loaded it; changed in place.
        loaded: the state dict that was given.
    """
    params = [param for group in groups for param in group["params"]]
    ids = [saved for group in loaded["param_groups"] for saved in group["params"]]
    for saved, param in zip(ids, params, strict=True):
        entry = loaded["state"].get(saved)
        stats = entry.get("stats") if isinstance(entry, dict) else None
        if isinstance(stats, Tensor) and isinstance(state.get(param), dict):
            state[param]["stats"] = stats.detach().to(param.device, torch.float64, copy=True)


def _pop_foreign(groups: Groups) -> list[str]:
    """Take away options that are of no use here; list those that ask for something.

    They would be saved and told again, else.
    """
    asked: dict[str, None] = {}
    for group in groups:
        for name, harmless in FOREIGN.items():
            value = group.pop(name, harmless)
            matters = name != "decoupled_weight_decay" or group.get("weight_decay")
            if bool(value) is not harmless and matters:
                asked[f"{name}={value!r}"] = None
    return list(asked)


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


def _tell(unused: list[str], missing: list[str], asked: list[str], optimizer: str) -> None:
    said = []
    if unused:
        said.append(f"has {_quoted(unused)}, which {optimizer} does not use")
    if missing:
        said.append(f"lacks {_quoted(missing)}, which will start from zero")
    if asked:
        said.append(f"was made with {', '.join(asked)}, which {optimizer} does not do")
    if said:
        warn(f"the loaded optimizer state {' and '.join(said)}; was it saved by another optimizer?")


def _quoted(keys: list[str]) -> str:
    return ", ".join(map(repr, keys))
