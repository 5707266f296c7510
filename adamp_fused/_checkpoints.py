"""What a loaded checkpoint says of how it was made, which is of no account here."""

from __future__ import annotations

from typing import Any

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
