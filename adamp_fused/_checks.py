"""Every check of tensors and state, each naming the value, the requirement and the remedy.

All of them run before a step changes anything.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from adamp_fused import _flattened
from adamp_fused._numbers import is_number, is_one
from adamp_fused._stats import Stat
from adamp_fused.sharding import dtensor

STATE_REMEDY = (
    "load the checkpoint of this model with load_state_dict, or start afresh by deleting the "
    "parameter's entry of optimizer.state"
)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_param(param: Tensor, name: str) -> None:
    """Raise unless ``param`` is of a kind that can be optimized."""
    if param.dtype not in DTYPES:
        raise TypeError(
            f"{name} has dtype {param.dtype}; AdamP and SGDP update float32, float64, bfloat16 and "
            "float16 parameters: convert it, or leave it out of the optimizer"
        )
    if param.layout != torch.strided:
        raise TypeError(
            f"{name} has layout {param.layout}; parameters must be dense (torch.strided): convert "
            "it with .to_dense()"
        )
    _flattened.check_unwrapped(param, name)
    if dtensor.is_dtensor(param):
        dtensor.check_param(param, name)
        return check_param(dtensor.local(param), name)
    if is_traceable_wrapper_subclass(param):
        raise TypeError(
            f"{name} is a wrapped parameter ({type(param).__name__}), and the projection needs "
            "whole rows: give the optimizer plain parameters, or DTensors as FSDP2 "
            "(torch.distributed.fsdp.fully_shard) and tensor parallelism make, or freeze it"
        )
    _check_own_memory(param, name)


def check_once(param: Tensor, name: str, seen: dict[Tensor, str]) -> None:
    """Raise if ``param`` is among those ``seen``, whose names are its values; add it to them."""
    if param in seen:
        raise ValueError(f"{name} is {seen[param]} again; list each parameter once")
    seen[param] = name


def check_grad(param: Tensor, grad: Tensor, name: str) -> None:
    """Raise unless ``grad`` is a gradient that ``param`` can be stepped with."""
    if grad.layout != torch.strided:
        raise TypeError(
            f"the gradient of {name} has layout {grad.layout}; AdamP and SGDP need dense "
            "gradients: use sparse=False in the embedding, or convert the gradient with .to_dense()"
        )
    for what in ("dtype", "device"):
        if getattr(grad, what) != getattr(param, what):
            raise TypeError(
                f"the gradient of {name} has {what} {getattr(grad, what)} and the parameter "
                f"{getattr(param, what)}; they must be the same: convert it with .to({what}=...)"
            )
    if grad.shape != param.shape:
        raise ValueError(
            f"the gradient of {name} has shape {tuple(grad.shape)} and the parameter "
            f"{tuple(param.shape)}; they must be the same: was the parameter's data replaced after "
            "backward?"
        )


def check_memory(tensor: Tensor, name: str) -> None:
    """Raise if the memory of ``tensor`` was taken away, as sharding does between uses."""
    if tensor.numel() > 0 and tensor.untyped_storage().nbytes() == 0:
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} has no memory, its storage was resized to 0; "
            "give it memory again before the step"
        )


def check_writable(tensor: Tensor, name: str) -> None:
    """Raise if ``tensor`` was made under ``torch.inference_mode()``, and this is outside it."""
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        raise RuntimeError(
            f"{name} was made under torch.inference_mode() and cannot be changed outside it: "
            "replace it with its .clone(), and use torch.no_grad() where it was made"
        )


def check_state(
    param: Tensor,
    state: Any,
    moments: tuple[str, ...],
    counts: tuple[str, ...],
    may_read: bool,
    name: str,
) -> None:
    """Raise unless the moments and the counts that are in a parameter's state can be used.

    Of tensors only ``step`` is read, and only if it may be: that could wait for a device.
    """
    if not isinstance(state, dict):
        raise TypeError(
            f"the state of {name} is {state!r} and must be a dictionary: {STATE_REMEDY}"
        )
    for key in (*moments, *counts):
        if key not in state:
            continue
        value, called = state[key], f"the state {key!r} of {name}"
        if key in moments:
            _check_moment(param, value, called)
        else:
            _check_count(param, value, may_read and key == "step", called)
        if isinstance(value, Tensor):
            check_writable(value, called)


def check_stats(param: Tensor, state: dict[str, Any], name: str) -> None:
    """Raise unless the statistics that are in a parameter's state can be gone on with."""
    value = state.get("stats")
    if value is None:
        return
    called = f"the state 'stats' of {name}"
    wanted = (torch.float64, (len(Stat),), param.device)
    given = (value.dtype, value.shape, value.device) if isinstance(value, Tensor) else repr(value)
    if not isinstance(value, Tensor) or given != wanted:
        if isinstance(value, Tensor):
            given = f"{value.dtype} of shape {tuple(value.shape)} on {value.device}"
        raise ValueError(
            f"{called} is {given} and must be "
            f"float64 of shape ({len(Stat)},) on {param.device}: delete it, to start afresh"
        )
    check_writable(value, called)


def _check_moment(param: Tensor, moment: Any, name: str) -> None:
    if not isinstance(moment, Tensor):
        raise TypeError(f"{name} is {moment!r} and must be a tensor: {STATE_REMEDY}")
    for what in ("shape", "dtype", "layout", "device"):
        if getattr(moment, what) != getattr(param, what):
            raise ValueError(
                f"{name} has {what} {getattr(moment, what)} and the parameter "
                f"{getattr(param, what)}; they must be the same: {STATE_REMEDY}"
            )
    _check_own_memory(moment, name)
    check_memory(moment, name)


def _check_count(param: Tensor, value: Any, may_read: bool, name: str) -> None:
    if isinstance(value, Tensor) and not may_read:
        usable = is_one(value) and (param.is_meta or not value.is_meta)
    else:
        usable = _is_count(value)
    if not usable:
        raise ValueError(f"{name} is {value!r} and must be one number, at least 0: {STATE_REMEDY}")


def _is_count(value: Any) -> bool:
    try:
        return is_number(value) and float(value) >= 0
    except OverflowError:
        return False


def _check_own_memory(tensor: Tensor, name: str) -> None:
    if torch._debug_has_internal_overlap(tensor) == 1:
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} and strides {tensor.stride()} has several "
            "elements in one memory location (an expanded tensor); make it a tensor of its own "
            "with .clone()"
        )
