"""CUDA graphs: when a step is being captured, and what may not be.

A graph repeats the launches of one step, with the addresses that it had. Whatever the host does in
a step, as to plan it, would not be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adamp_fused._options import TENSORS

Groups = list[dict[str, Any]]


def is_capturing() -> bool:
    """Whether what is launched on the current stream goes into a graph now."""
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return started and torch.cuda.is_current_stream_capturing()


def captured_device() -> torch.device:
    """Of the graph that is being captured."""
    return torch.device("cuda", torch.cuda.current_device())


def check_groups(groups: Groups, name: Callable[[int, int], str]) -> None:
    """Raise RuntimeError where a step cannot be captured as it is.

    Args:
        groups: of the optimizer.
        name: of a parameter, from the indices of its group and in it.
    """
    for index, group in enumerate(groups):
        if not group["capturable"]:
            raise RuntimeError(
                f"step() is being captured into a CUDA graph and group {index} has "
                "capturable=False: each replay would repeat this step's count and options; use "
                "capturable=True"
            )
        for option in TENSORS:
            value = group[option]
            if isinstance(value, Tensor) and not value.is_cpu and value.dtype != torch.float32:
                raise TypeError(
                    f"step() is being captured into a CUDA graph and {option} of group {index} is "
                    f"a tensor of {value.dtype} on {str(value.device)!r}, which the host would "
                    "have to read; use a float32 tensor, which each replay reads"
                )
        for i, param in enumerate(group["params"]):
            if param.requires_grad and param.grad is None:
                raise RuntimeError(
                    f"step() is being captured into a CUDA graph and {name(index, i)} has no "
                    "gradient: no replay would step it; call backward() in the graph, or before "
                    "the capture, or set requires_grad=False"
                )


def check_devices(devices: list[torch.device]) -> None:
    """Raise RuntimeError where a plan would run outside of the graph, once."""
    captured = captured_device()
    for device in devices:
        if device != captured:
            raise RuntimeError(
                f"step() is being captured into a CUDA graph of {str(captured)!r} and has "
                f"parameters on {str(device)!r}, whose step would be no part of it; use an "
                "optimizer for each device, and capture each on its own"
            )


def refuse_planning() -> None:
    """Raise RuntimeError: the step has to be planned, which a graph cannot repeat."""
    raise RuntimeError(
        "step() is being captured into a CUDA graph and has to be planned first, since this is the "
        "first step, or parameters, state or options have changed since the last; call step() "
        "once before the capture, as torch.cuda.graph's warm-up does, and change nothing after it "
        "but gradients and values"
    )
