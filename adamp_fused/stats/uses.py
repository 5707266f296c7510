"""What follows a weight in a forward pass: the operation that first does more than pass it on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

#: Operations that apply a weight to an input; what counts is what follows them.
_APPLY = {"linear", "bilinear", "embedding", "matmul", "__matmul__", "mm", "bmm", "addmm", "einsum"}
_APPLY |= {f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)}
#: Operations whose result has the scale of what they are given.
_PASS_ON = {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "clone"}
_PASS_ON |= {"contiguous", "transpose", "permute", "movedim", "swapaxes", "t", "T", "mT", "H", "mH"}
_PASS_ON |= {"chunk", "split", "split_with_sizes", "unbind", "__getitem__", "dropout"}
_PASS_ON |= {"to", "float", "double", "half", "bfloat16", "type_as"}
_NAMES = {
    "batch_norm": "BatchNorm",
    "instance_norm": "InstanceNorm",
    "layer_norm": "LayerNorm",
    "group_norm": "GroupNorm",
    "rms_norm": "RMSNorm",
    "_weight_norm": "weight norm",
    "cosine_similarity": "cosine",
}


class _Follow(TorchFunctionMode):
    """Carries the names of weights along with the tensors that are linear in them."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.followers: dict[str, dict[str, None]] = {name: {} for name in weights}
        self._weights = {id(weight): name for name, weight in weights.items()}
        self._carried: dict[int, frozenset[str]] = {}
        self._alive: list[Tensor] = []  # an address must not be given to another tensor

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "__get__":  # of .T and .mT, or of an attribute
            name = getattr(getattr(func, "__self__", None), "__name__", name)
        if not any(isinstance(t, Tensor) for t in pytree.tree_leaves(result)):
            return result  # a size, for example
        given = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        of_weights = {self._weights[id(t)] for t in given if id(t) in self._weights}
        carried = {n for t in given for n in self._carried.get(id(t), ())}
        if name in _APPLY:
            # A weight is applied to something that may carry others.
            self._note(carried, name)
            self._carry(result, of_weights or carried)
        elif name in _PASS_ON:
            self._carry(result, of_weights | carried)
        else:
            self._note(of_weights | carried, name)
        return result

    def finish(self, outputs: list[Tensor]) -> None:
        """Note what leaves the model as it is."""
        for tensor in outputs:
            self._note(self._carried.get(id(tensor), ()), "the output")

    def _note(self, names: Iterable[str], follower: str) -> None:
        for name in names:
            self.followers[name][_NAMES.get(follower, follower.strip("_"))] = None

    def _carry(self, result: Any, names: set[str]) -> None:
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, Tensor) and names:
                self._alive.append(tensor)
                self._carried[id(tensor)] = frozenset(names)


def followers(
    model: nn.Module, forward: Callable[[], list[Tensor]], weights: dict[str, Tensor]
) -> dict[str, tuple[str, ...]]:
    """What follows each weight, by its name in ``weights``; best effort, for people to read.

    ``batch_norm`` after a convolution is "BatchNorm", for example; a weight that is used twice may
    have several, one that is not used none.
    """
    follow = _Follow(weights)
    with torch.no_grad(), follow:
        outputs = forward()
    follow.finish(outputs)
    return {name: tuple(found) for name, found in follow.followers.items()}
