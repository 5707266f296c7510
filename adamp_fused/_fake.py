"""Fake tensors, which stand for tensors that are not there: shapes, types and devices, no memory.

Under ``torch._subclasses.FakeTensorMode`` one sees how much memory a training takes. A step on fake
parameters makes their state and computes nothing, as the kernels need no memory besides.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim import Optimizer

_F = TypeVar("_F", bound=Callable[..., Any])


def is_fake(tensor: Tensor) -> bool:
    """Whether there is no memory behind ``tensor`` to be read or written."""
    return isinstance(tensor, FakeTensor)


def in_their_mode(func: _F) -> _F:
    """A method that makes fake state where an optimizer's parameters are fake, mode or no mode."""

    @functools.wraps(func)
    def method(self: Optimizer, *args: Any) -> Any:
        with _mode(self):
            return func(self, *args)

    return cast(_F, method)


def _mode(optimizer: Optimizer) -> AbstractContextManager[object]:
    for group in optimizer.param_groups:
        for param in group["params"]:
            if is_fake(param):
                return cast(AbstractContextManager[object], param.fake_mode)
    return nullcontext()
