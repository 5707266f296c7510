"""Every check of the options, each naming the value, the requirement and the remedy."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from adamp_fused._fake import is_fake
from adamp_fused._methods import Method
from adamp_fused._numbers import check_at_least_zero

PROJECTIONS = ("auto", "channel", "layer", "off")
#: Options of every method that are numbers of at least 0, beside lr, and those that are flags.
NUMBERS = ("eps", "weight_decay", "delta", "wd_ratio")
FLAGS = ("nesterov", "maximize", "capturable")
#: Those that may be tensors on a device, whose value no check reads.
TENSORS = ("lr", "weight_decay")
#: Of training in 16 bits, and the one value that they may have so far. They are in every group
#: from now on, so that flattened checkpoints written today have them.
NOT_YET = {"state_dtype": None, "master_weights": False, "stochastic_rounding": False}


def check_options(options: dict[str, Any], method: type[Method]) -> None:
    """Raise ValueError or TypeError unless every option of ``method`` is usable."""
    for name in ("lr", *NUMBERS):
        if name not in TENSORS or not _stays_on_device(name, options[name]):
            check_at_least_zero(name, options[name])
    method.check_options(options)
    for name in (*FLAGS, *method.flags):
        check_flag(name, options[name])
    projection = options["projection"]
    if not isinstance(projection, str) or projection not in PROJECTIONS:
        raise ValueError(
            f"projection={projection!r} is not known; use one of "
            f"{', '.join(map(repr, PROJECTIONS))}"
        )
    for name, only in NOT_YET.items():
        if options[name] is not only:
            raise ValueError(
                f"{name}={options[name]!r} must be {only} until training in 16 bits is supported; "
                f"leave it out, or pass {name}={only}"
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
        check_flag(name, value)
        if bool(value) != so:
            raise ValueError(
                f"{name}={value!r} must be {so} or None with backend={backend!r}: leave it out; "
                f"{remedy}"
            )


def check_group(
    groups: list[dict[str, Any]], index: int, method: type[Method], backend: str | None
) -> None:
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


def _stays_on_device(name: str, value: Any) -> bool:
    """Whether an option is a tensor that cannot be read without waiting for its device."""
    if not isinstance(value, Tensor):
        return False
    if value.numel() != 1:
        raise ValueError(
            f"{name} is a tensor of {value.numel()} elements; as a tensor it must have exactly "
            f"one: use one parameter group for each {name}"
        )
    return value.device.type not in ("cpu", "meta") or is_fake(value)


def check_flag(name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` says yes or no."""
    wrong = isinstance(value, str)  # "False" is true
    try:
        bool(value)
    except (TypeError, ValueError, RuntimeError):  # an array is neither true nor false
        wrong = True
    if wrong:
        raise TypeError(f"{name}={value!r} must be True or False; pass {name}=True or {name}=False")
