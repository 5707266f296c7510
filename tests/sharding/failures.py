"""Steps that cannot be made: what each process sees, and what has changed."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.nn import Parameter

import adamp_fused
from messages import message
from parity.gradients import generator, noise
from sharding import parts
from sharding.runs import local, register_backend

SHAPES = ((8, 12), (6, 5), (7,))


def optimizer_of(backend: str, **options: Any) -> tuple[Any, list[Parameter]]:
    """An optimizer of three sharded parameters in all processes, with gradients."""
    register_backend(backend)
    mesh, rng = parts.mesh_of((4,)), generator(1)
    params = []
    for shape in SHAPES:
        weights, grads = (noise(torch.Size(shape), rng) for _ in range(2))
        param = Parameter(parts.distributed(weights, mesh, [Shard(0)]))
        param.grad = parts.distributed(grads, mesh, [Shard(0)])
        params.append(param)
    return adamp_fused.FusedAdamP(params, lr=0.1, backend=backend, **options), params


def held(optimizer: Any, params: list[Parameter]) -> list[Tensor]:
    """Copies of all that is here of weights and state."""
    values = [local(param) for param in params]
    for param in params:
        values += [local(value) for value in optimizer.state.get(param, {}).values()]
    return [value.clone() for value in values]


def one_without_gradient(backend: str, whole_process: bool) -> tuple[str, str]:
    """One process lacks a gradient, or all; what a step says, and the step after it."""
    optimizer, params = optimizer_of(backend)
    optimizer.step()
    kept = [param.grad for param in params]
    if dist.get_rank() == 2:
        for param in params if whole_process else params[1:2]:
            param.grad = None
    said = message(optimizer.step)
    for param, grad in zip(params, kept, strict=True):
        param.grad = grad
    return said, message(optimizer.step)


@contextlib.contextmanager
def failing(turn: int) -> Iterator[None]:
    """The all-reduce of that number fails, in every process."""
    original, number = dist.all_reduce, 0

    def all_reduce(*args: Any, **kwargs: Any) -> Any:
        nonlocal number
        number += 1
        if number == turn:
            raise RuntimeError("the network is down")
        return original(*args, **kwargs)

    dist.all_reduce = all_reduce
    try:
        yield
    finally:
        dist.all_reduce = original


def broken_collective(backend: str, turn: int) -> tuple[str, bool, str]:
    """What a step says whose collective fails, whether it has changed anything, and the next."""
    optimizer, params = optimizer_of(backend, max_grad_norm=1.0)
    optimizer.step()
    before = held(optimizer, params)
    with failing(turn):
        said = message(optimizer.step)
    after = held(optimizer, params)
    same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return said, same, message(optimizer.step)


def _plain_moment(optimizer: Any, params: list[Parameter]) -> None:
    optimizer.state[params[0]]["exp_avg"] = torch.zeros(SHAPES[0], dtype=torch.float64)


def _moment_elsewhere(optimizer: Any, params: list[Parameter]) -> None:
    state = optimizer.state[params[0]]
    state["exp_avg"] = state["exp_avg"].redistribute(placements=[Replicate()])


BAD: dict[str, Callable[[Any, list[Parameter]], None]] = {
    "a plain moment": _plain_moment,
    "a moment elsewhere": _moment_elsewhere,
}


def refused(backend: str, what: str) -> tuple[str, bool]:
    """What a step says to bad input, and whether it has changed anything."""
    optimizer, params = optimizer_of(backend)
    optimizer.step()
    BAD[what](optimizer, params)
    before = [local(param).clone() for param in params]
    said = message(optimizer.step)
    after = [local(param) for param in params]
    return said, all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def partial_parameter() -> str:
    """A parameter of which each process has a summand."""
    mesh = parts.mesh_of((4,))
    summand = DTensor.from_local(torch.ones(4, 4), mesh, [Partial()], run_check=False)
    return message(lambda: adamp_fused.FusedAdamP([Parameter(summand)]))


def plain_with_dtensor_gradient() -> str:
    """A plain parameter whose gradient is a DTensor."""
    mesh = parts.mesh_of((4,))
    param = Parameter(torch.ones(4, 4))
    optimizer = adamp_fused.FusedAdamP([param])
    param.grad = DTensor.from_local(torch.ones(4, 4), mesh, [Replicate()], run_check=False)
    return message(optimizer.step)
