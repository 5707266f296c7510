"""A copy of a model on which weights, gradients and outputs can be tried out."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

_REMEDY = "pass dtype=torch.float32 if the model cannot be computed in float64"


class Probe:
    """A deep copy of a model in train mode, with inputs; the model itself is left alone.

    Of a model in train mode, layers that were set to eval mode (a frozen BatchNorm) stay in it.

    Every forward pass starts from the same buffers and the same random numbers, so that outputs
    differ by the weights alone.

    Args:
        model: what to copy.
        inputs: a tensor, a tuple or list of arguments, or a dictionary of keyword arguments.
        loss: of what the model returns; None: a random linear functional of all its outputs.
        dtype: of the copy's weights and inputs.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        loss: Callable[[Any], Tensor] | None,
        dtype: torch.dtype,
    ) -> None:
        _check(model)
        try:
            self.model = copy.deepcopy(model)
        except RuntimeError as error:
            raise RuntimeError(
                f"the model cannot be copied and must be, to be left as it is ({error}); "
                "torch.nn.utils.weight_norm is one cause: use "
                "torch.nn.utils.parametrizations.weight_norm"
            ) from error
        self.model.to(dtype).zero_grad()
        if not model.training:
            self.model.train()
        self._loss, self.dtype = loss, dtype
        self.has_loss = loss is not None
        self.cuda_devices = sorted(
            {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
        )
        inputs = pytree.tree_map(self._converted, inputs)
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[str, Any] = {}
        if isinstance(inputs, Mapping):
            self._kwargs = dict(inputs)
        elif isinstance(inputs, (tuple, list)):
            self._args = tuple(inputs)
        else:
            self._args = (inputs,)
        self.params = dict(self.model.named_parameters())
        self._start = {name: p.detach().clone() for name, p in self.params.items()}
        self._buffers = {name: b.clone() for name, b in self.model.named_buffers()}

    def outputs(self) -> list[Tensor]:
        """All real floating-point tensors of a forward pass; the loss where there are none."""
        result = self._forward()
        found = [
            t for t in pytree.tree_leaves(result) if isinstance(t, Tensor) and t.is_floating_point()
        ]
        if not found and self._loss is not None:
            found = [self._loss(result)]
        if not found:
            raise TypeError(
                f"the model returned {type(result).__name__} without a floating-point tensor that "
                "can be found in it and must return one; pass loss=, a function of what it returns"
            )
        return found

    def gradients(self, seed: int, with_loss: bool = False) -> dict[str, Tensor]:
        """Gradients of a random linear functional of the outputs, or of the loss if there is one.

        Parameters that do not take part have none.
        """
        with torch.enable_grad():
            if with_loss and self._loss is not None:
                total = self._loss(self._forward())
            else:
                outputs = self.outputs()
                rng = torch.Generator().manual_seed(seed)
                total = torch.zeros((), dtype=self.dtype, device=outputs[0].device)
                for out in outputs:
                    weights = torch.randn(out.shape, generator=rng, dtype=out.dtype)
                    total = total + (out * weights.to(out.device)).sum()
            wanted = {name: p for name, p in self.params.items() if p.requires_grad}
            if not wanted or not total.requires_grad:
                return {}
            grads = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
        return {name: g for name, g in zip(wanted, grads, strict=True) if g is not None}

    @torch.no_grad()
    def go_to_start(self) -> None:
        """Give the copy the weights of the model."""
        for name, param in self.params.items():
            param.copy_(self._start[name])

    @torch.no_grad()
    def go_to_random_point(self, seed: int) -> None:
        """Move weights a little, biases by more, and so those that are all alike.

        Scale invariance holds at all points or at none. Where training begins it may seem to hold
        where it does not: biases are 0, and so are gradients before layers that are 0.
        """
        rng = torch.Generator().manual_seed(seed)
        for name, param in self.params.items():
            start = self._start[name]
            noise = torch.randn(start.shape, generator=rng, dtype=start.dtype).to(start.device)
            spread = float(start.std()) if start.numel() > 1 else 0.0
            if start.ndim < 2:
                size = max(0.1 * spread, 0.2)
            elif spread > 0:
                size = 0.1 * spread
            else:  # 0 or 1 everywhere
                size = (start.numel() // max(start.shape[0], 1) or 1) ** -0.5
            param.copy_(start + size * noise)

    @contextmanager
    def scaled(self, name: str, factors: Tensor | float) -> Generator[None]:
        """Multiply a weight for a while."""
        with torch.no_grad(), self._kept(name):
            self.params[name].mul_(factors)
            yield

    @contextmanager
    def moved(self, name: str, difference: Tensor) -> Generator[None]:
        """Add to a weight for a while."""
        with torch.no_grad(), self._kept(name):
            self.params[name].add_(difference)
            yield

    @contextmanager
    def _kept(self, name: str) -> Generator[None]:
        before = self.params[name].clone()
        try:
            yield
        finally:
            self.params[name].copy_(before)

    def _forward(self) -> Any:
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                if name in self._buffers:
                    buffer.copy_(self._buffers[name])
        self._seed()
        try:
            return self.model(*self._args, **self._kwargs)
        except (RuntimeError, TypeError) as error:
            raise type(error)(
                f"a forward pass of the copy in {self.dtype} failed ({error}); inputs are a "
                f"tensor, a tuple of arguments or a dictionary of keyword arguments; {_REMEDY}"
            ) from error

    def _seed(self) -> None:
        """The same dropout in every pass; the caller puts random numbers back.

        Not ``torch.manual_seed``, which would seed devices that the model is not on.
        """
        random.seed(0)
        torch.default_generator.manual_seed(0)
        for index in self.cuda_devices:
            torch.cuda.default_generators[index].manual_seed(0)

    def _converted(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            value = value.detach().clone()
            return value.to(self.dtype) if value.is_floating_point() else value
        return value


def _check(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r} must be a torch.nn.Module; pass the model itself")
    for name, param in model.named_parameters():
        if is_lazy(param):
            raise ValueError(
                f"parameter {name!r} is lazy and must have a shape; call the model once before"
            )
        if param.is_meta:
            raise ValueError(
                f"parameter {name!r} is on the meta device and must have values; initialise it: "
                "model.to_empty(device=...) and reset_parameters()"
            )
