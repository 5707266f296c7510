"""Every check of the options, each naming the value, the requirement and the remedy."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
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
        # 1 and more serve for a moment, as torch's schedulers cycle it; see check_decay.
        _check_at_least_zero("momentum", options["momentum"])
        for name, common in (("momentum", "0.9"), ("dampening", "0")):
            _check_finite(name, options[name], f"{common} is common")
        flags.append("project_buffer")
    else:
        for i, beta in enumerate(_pair("betas", options["betas"])):
            _check_fraction(f"betas[{i}]", beta, "0.9 or 0.999 are common")
    for name in flags:
        _check_flag(name, options[name])
    projection = options["projection"]
    if not isinstance(projection, str) or projection not in PROJECTIONS:
        raise ValueError(
            f"projection={projection!r} is not known; use one of "
            f"{', '.join(map(repr, PROJECTIONS))}"
        )


def check_implementation(options: dict[str, Any], backend: str | None) -> None:
    """Raise ValueError where options ask for another way to step than ``backend``.

    None, and what an older checkpoint does not name, ask for nothing.
    """
    if options.get("backend", backend) != backend:
        raise ValueError(
            f"backend={options['backend']!r} is given to a parameter group and must be one for "
            "all: pass it to the optimizer, or use an optimizer for each backend"
        )
    fused = backend != "reference"
    for name, so, remedy in (
        ("fused", fused, "backend='reference' is plain torch operations, any other backend fused"),
        ("foreach", False, "use a fused backend instead of foreach operations"),
        ("differentiable", False, "differentiate through an optimizer of plain operations"),
    ):
        value = options.get(name)
        if value is None:
            continue
        _check_flag(name, value)
        if bool(value) != so:
            raise ValueError(
                f"{name}={value!r} must be {so} or None with backend={backend!r}: leave it out; "
                f"{remedy}"
            )


def check_group(groups: list[dict[str, Any]], index: int, method: str, backend: str | None) -> None:
    """Check the options of a group, which the message names."""
    try:
        check_options(groups[index], method)
        check_implementation(groups[index], backend)
    except (TypeError, ValueError) as error:
        raise type(error)(f"group {index}: {error}") from None
    except KeyError as missing:
        raise ValueError(
            f"group {index}: the option {missing} is missing; give it with add_param_group, which "
            "also fills in the defaults"
        ) from None


def check_decay(group: dict[str, Any], index: int) -> None:
    """Raise ValueError where a step would divide SGDP's weight decay by 0, or by less."""
    momentum, decay = group["momentum"], group["weight_decay"]
    if float(momentum) >= 1 and float(decay) != 0:
        raise ValueError(
            f"group {index}: momentum={momentum!r} must be below 1 where weight_decay={decay!r} is "
            "not 0, since SGDP divides the weight decay by 1 - momentum: use momentum=0.9 or "
            "weight_decay=0"
        )


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


def _pair(name: str, values: Any) -> tuple[Any, ...]:
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
