"""Whether the tensors that a step writes lie apart in memory.

Two that overlap would be written by two threads at once, in an order that changes from run to run.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

#: A tensor that a step writes: itself, the parameter that it belongs to, and the key of that
#: parameter's state, or None. Here and below plain tuples, since there may be 50,000.
Written = tuple[Tensor, str, str | None]
#: The addresses of a tensor's first byte and behind its last, and its place in the list.
Span = tuple[int, int, int]


def check_apart(written: list[Written]) -> None:
    """Raise ValueError if two tensors share memory; adjacent or interleaved views do not.

    The cost is that of sorting addresses. Only where spans overlap are elements looked at.
    """
    spans: dict[torch.device, list[Span]] = {}
    for place, (tensor, _, _) in enumerate(written):
        # data_ptr() gives a lazy clone (copy on write) memory of its own.
        if tensor.numel() > 0 and not tensor.is_meta and (begin := tensor.data_ptr()):
            own = (begin, begin + _reach(tensor) * tensor.element_size(), place)
            spans.setdefault(tensor.device, []).append(own)
    for on_device in spans.values():
        on_device.sort()
        cluster, end = on_device[:1], on_device[0][1]
        for span in on_device[1:]:
            if span[0] >= end:
                _check_cluster(cluster, written)
                cluster, end = [], span[1]
            cluster.append(span)
            end = max(end, span[1])
        _check_cluster(cluster, written)


def _reach(tensor: Tensor) -> int:
    """Elements from the first of a tensor to its last, gaps included."""
    if tensor.is_contiguous():
        return tensor.numel()
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((length - 1) * stride for length, stride in steps)


def _check_cluster(cluster: list[Span], written: list[Written]) -> None:
    """Raise if two of these tensors, whose spans form one piece, have an element in common."""
    if len(cluster) < 2:
        return
    tensors = [written[place][0] for _, _, place in cluster]
    for (one, other), (first, second) in zip(pairwise(tensors), pairwise(cluster), strict=True):
        dense = _reach(one) == one.numel() and _reach(other) == other.numel()
        if dense and second[0] < first[1]:
            _refuse(written[first[2]], written[second[2]])
    base, end = cluster[0][0], max(end for _, end, _ in cluster)
    unit = math.gcd(
        *(begin - base for begin, _, _ in cluster), *(t.element_size() for t in tensors)
    )
    taken = torch.zeros((end - base) // unit, dtype=torch.bool, device="cpu")

    def marks(i: int) -> Tensor:
        """What stands for the memory of tensor i, as a view of ``taken``."""
        units = tensors[i].element_size() // unit
        strides = [stride * units for stride in tensors[i].stride()]
        offset = (cluster[i][0] - base) // unit
        return taken.as_strided((*tensors[i].shape, units), (*strides, 1), offset)

    for i in range(len(cluster)):
        if marks(i).any():
            taken.zero_()
            marks(i).fill_(True)
            earlier = next(k for k in range(i) if marks(k).any())
            _refuse(written[cluster[earlier][2]], written[cluster[i][2]])
        marks(i).fill_(True)


def _refuse(one: Written, other: Written) -> None:
    raise ValueError(
        f"{_name(one)} and {_name(other)} share memory, which a step would write twice at once: "
        "list a shared weight once (tie modules by one Parameter, not by .data), or give each "
        "memory of its own with .clone()"
    )


def _name(written: Written) -> str:
    _, owner, key = written
    return owner if key is None else f"the state {key!r} of {owner}"
