"""Every check of the options, each naming the value, the requirement and the remedy."""

from __future__ import annotations

import math
import sys
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from adamp_fused._fake import is_fake

PROJECTIONS = ("auto", "channel", "layer", "off")


def check_options(options: dict[str, Any], method: str) -> None:
    """Raise ValueError or TypeError unless every option of ``method`` is usable."""
    _check_lr(options["lr"])
    for name in ("eps", "weight_decay", "delta", "wd_ratio"):
        _check_at_least_zero(name, options[name])
    flags = ["nesterov", "maximize", "capturable"]
    if method == "sgdp":
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


def check_group(groups: list[dict[str, Any]], index: int, method: str) -> None:
    """Check the options of a group, which the message names."""
    try:
        check_options(groups[index], method)
    except (TypeError, ValueError) as error:
        raise type(error)(f"group {index}: {error}") from None
    except KeyError as missing:
        raise ValueError(
            f"group {index}: the option {missing} is missing; give it with add_param_group, which "
            "also fills in the defaults"
        ) from None


def is_number(value: Any) -> bool:
    """Whether ``value`` is a number or a tensor of one, that can be read."""
    if isinstance(value, Tensor):
        return is_one(value) and not value.is_meta
    return isinstance(value, Real)


def is_one(value: Tensor) -> bool:
    """Whether ``value`` is one real element, whatever its shape and device."""
    return value.numel() == 1 and value.layout == torch.strided and not value.is_complex()


def _check_lr(lr: Any) -> None:
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError(
                f"lr is a tensor of {lr.numel()} elements; a tensor learning rate must have "
                "exactly one: use one parameter group for each learning rate"
            )
        # The value of a tensor on a device is not read: that would wait for the device.
        if lr.device.type not in ("cpu", "meta") or is_fake(lr):
            return
    _check_at_least_zero("lr", lr)


def _number(name: str, value: Any) -> float:
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
