"""Statistics as scalars of TensorBoard, or of any other writer that has ``add_scalar``."""

from __future__ import annotations

import re
from typing import Any, Protocol

from adamp_fused._stats import OUTCOMES
from adamp_fused.stats.records import Stats, margin

#: What is a number as it stands; the outcome and the margin are made into one.
_NUMBERS = (
    "effective_lr",
    "angle",
    "growth",
    "removed",
    "weight_norm",
    "grad_norm",
    "update_norm",
)


class ScalarWriter(Protocol):
    """What ``torch.utils.tensorboard.SummaryWriter`` shares with writers of other loggers."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Log one number."""


def add_to(stats: Stats, writer: ScalarWriter, step: int) -> None:
    """Write statistics as scalars named ``adamp/<quantity>/<parameter>``.

    Quantities: ``outcome`` (0 none, 1 channel, 2 layer), ``margin`` (``max_cosine / bound``, below
    1 where the channel-wise test passes), and the numbers of the statistics under their own names.

    Args:
        stats: what ``optimizer.stats()`` returns.
        writer: anything with ``add_scalar(tag, value, step)``.
        step: the number of the step, as TensorBoard shows it.

    Raises:
        TypeError: ``writer`` has no ``add_scalar``.
    """
    if not callable(getattr(writer, "add_scalar", None)):
        raise TypeError(
            f"writer={writer!r} must have a method add_scalar(tag, value, step); pass a "
            "torch.utils.tensorboard.SummaryWriter, for example"
        )
    for name, values in stats.items():
        # TensorBoard replaces other characters by itself, with a warning for each.
        tag = re.sub(r"[^\w./-]+", "_", name)
        writer.add_scalar(f"adamp/outcome/{tag}", float(OUTCOMES.index(values["outcome"])), step)
        writer.add_scalar(f"adamp/margin/{tag}", margin(values), step)
        for key in _NUMBERS:
            if key in values:
                writer.add_scalar(f"adamp/{key}/{tag}", float(values[key]), step)
