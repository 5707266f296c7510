"""Every check of a user's input, each naming the value, the requirement and the remedy.

All of them run before a step changes anything.
"""

from __future__ import annotations

import math
import sys
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

PROJECTIONS = ("auto", "channel", "layer", "off")
STATE_REMEDY = (
    "load the checkpoint of this model with load_state_dict, or start afresh by deleting the "
    "parameter's entry of optimizer.state"
)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_options(options: dict[str, Any]) -> None:
    """Raise ValueError or TypeError unless every option, of a group or for all, is usable."""
    _check_lr(options["lr"])
    for name in ("eps", "weight_decay", "delta", "wd_ratio"):
        _check_at_least_zero(name, options[name])
    flags = ["nesterov", "maximize", "capturable"]
    if "momentum" in options or "dampening" in options:
        _check_fraction("momentum", options["momentum"], "0.9 is common")
        _check_finite("dampening", options["dampening"], "0 is common")
        flags.append("project_buffer")
    else:
        betas = options["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(
                f"betas={betas!r} must be two numbers in [0, 1), for example betas=(0.9, 0.999)"
            )
        for i, beta in enumerate(betas):
            _check_fraction(f"betas[{i}]", beta, "0.9 or 0.999 are common")
    for name in flags:
        _check_flag(name, options[name])
    projection = options["projection"]
    if not isinstance(projection, str) or projection not in PROJECTIONS:
        raise ValueError(
            f"projection={projection!r} is not known; use one of "
            f"{', '.join(map(repr, PROJECTIONS))}"
        )
    if "backend" in options:
        raise ValueError(
            f"backend={options['backend']!r} is given to a parameter group and must be one for "
            "all: pass it to the optimizer, or use an optimizer for each backend"
        )


def check_group(groups: list[dict[str, Any]], index: int) -> None:
    """Check the options of a group, which the message names."""
    try:
        check_options(groups[index])
    except (TypeError, ValueError) as error:
        raise type(error)(f"group {index}: {error}") from None
    except KeyError as missing:
        raise ValueError(
            f"group {index}: the option {missing} is missing; give it with add_param_group, which "
            "also fills in the defaults"
        ) from None


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
    # FSDP's flattened parameters are plain tensors with a mark: of one dimension, so that none
    # would be projected, without a word.
    if is_traceable_wrapper_subclass(param) or getattr(param, "_is_flat_param", False):
        raise TypeError(
            f"{name} is a wrapped, sharded or flattened parameter ({type(param).__name__}); these "
            "are not supported yet, since the projection needs whole rows: give the optimizer the "
            "plain parameters"
        )
    if torch._debug_has_internal_overlap(param) == 1:
        raise ValueError(
            f"{name} of shape {tuple(param.shape)} and strides {param.stride()} has several "
            "elements in one memory location (an expanded tensor); make it a tensor of its own "
            "with .clone()"
        )


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


def check_moment(param: Tensor, moment: Any, key: str, name: str) -> None:
    """Raise unless a moment of the state fits its parameter."""
    if not isinstance(moment, Tensor):
        raise TypeError(
            f"the state {key!r} of {name} is {moment!r} and must be a tensor: {STATE_REMEDY}"
        )
    for what in ("shape", "dtype", "device"):
        if getattr(moment, what) != getattr(param, what):
            raise ValueError(
                f"the state {key!r} of {name} has {what} {getattr(moment, what)} and the parameter "
                f"{getattr(param, what)}; they must be the same: {STATE_REMEDY}"
            )


def check_memory(tensor: Tensor, name: str) -> None:
    """Raise if the memory of ``tensor`` was taken away, as sharding does between uses."""
    if tensor.numel() > 0 and tensor.untyped_storage().nbytes() == 0:
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} has no memory, its storage was resized to 0; "
            "give it memory again before the step"
        )


def check_count(value: Any, key: str, name: str, may_read: bool) -> None:
    """Raise unless ``step`` or ``view`` of the state is one number, not below 0 if that is read."""
    if not _is_number(value) or (may_read and not value >= 0):
        raise ValueError(
            f"the state {key!r} of {name} is {value!r} and must be one number, at least 0: "
            f"{STATE_REMEDY}"
        )


def _check_lr(lr: Any) -> None:
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError(
                f"lr is a tensor of {lr.numel()} elements; a tensor learning rate must have "
                "exactly one: use one parameter group for each learning rate"
            )
        # The value of a tensor on a device is not read: that would wait for the device.
        if lr.device.type not in ("cpu", "meta"):
            return
    _check_at_least_zero("lr", lr)


def _is_number(value: Any) -> bool:
    """Whether ``value`` is a number or a tensor of one, that can be read."""
    if not isinstance(value, Tensor):
        return isinstance(value, Real)
    plain = value.layout == torch.strided and not value.is_complex() and not value.is_meta
    return plain and value.numel() == 1


def _number(name: str, value: Any) -> float:
    if not _is_number(value):
        raise TypeError(f"{name}={value!r} must be a number, for example {name}=0.1")
    try:
        return float(value)
    except OverflowError:
        # Its digits would fill pages, where Python prints them at all.
        raise ValueError(
            f"{name} is a number beyond the range of a float and must be within it; pass one "
            f"below {sys.float_info.max:.1e}, for example {name}=0.1"
        ) from None


def _check_at_least_zero(name: str, value: Any) -> None:
    if not _number(name, value) >= 0:
        raise ValueError(f"{name}={value!r} must be at least 0; pass {name}=0 or a positive number")


def _check_finite(name: str, value: Any, advice: str) -> None:
    if not math.isfinite(_number(name, value)):
        raise ValueError(f"{name}={value!r} must be finite; {advice}")


def _check_fraction(name: str, value: Any, advice: str) -> None:
    if not 0 <= _number(name, value) < 1:
        raise ValueError(f"{name}={value!r} must be at least 0 and below 1; {advice}")


def _check_flag(name: str, value: Any) -> None:
    wrong = isinstance(value, str)  # "False" is true
    try:
        bool(value)
    except (TypeError, ValueError, RuntimeError):  # an array is neither true nor false
        wrong = True
    if wrong:
        raise TypeError(f"{name}={value!r} must be True or False; pass {name}=True or {name}=False")
