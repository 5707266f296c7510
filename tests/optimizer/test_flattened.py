"""Parameters that a wrapper flattened are refused; whole ones are not, whoever wraps them."""

import copy
import gc
import json
import pickle
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import Parameter

from conftest import Kind
from optimizer import sharded_runs
from optimizer.spoiling import fails_and_changes_nothing
from parity.cases import shapes
from parity.gradients import SCRIPT
from parity.pairs import model, run, weights
from parity.targets import Target

FSDP2 = r"whole rows.*torch\.distributed\.fsdp\.fully_shard"


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes saw."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("torch was built without gloo")
    folder = tmp_path_factory.mktemp("two_processes")
    mp.spawn(sharded_runs.run, (str(folder),), nprocs=2)
    return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("which", ["all", "vectors"])
@pytest.mark.parametrize("strategy", ["FULL_SHARD", "SHARD_GRAD_OP"])
def test_pieces_of_fsdp1(
    two_processes: list[dict[str, Any]], kind: Kind, strategy: str, which: str
) -> None:
    """Every process refuses the pieces when they are handed over, those of vectors as well."""
    for results in two_processes:
        said = results[f"{kind.name} {strategy} {which}"]
        assert re.match(rf"TypeError: parameter 0 of group 0 of shape .* FSDP1 .*{FSDP2}", said)


def test_sharded_afterwards(two_processes: list[dict[str, Any]], kind: Kind) -> None:
    """Parameters that become pieces after the optimizer was made are refused at the step."""
    for results in two_processes:
        said = results[f"{kind.name} made before"]
        assert re.match(rf"ValueError: parameter . of group 0 .* is a flattened .*{FSDP2}", said)


@pytest.mark.parametrize("backend_name", ["cpu", "reference"])
@pytest.mark.parametrize("how", ["NO_SHARD", "DDP", "ZeRO False", "ZeRO True"])
def test_whole_parameters_of_wrappers(
    two_processes: list[dict[str, Any]], kind: Kind, how: str, backend_name: str
) -> None:
    """Wrappers that keep whole parameters train as one process does."""
    for results in two_processes:
        alone = results[f"{kind.name} {backend_name} alone"]
        wrapped = results[f"{kind.name} {backend_name} {how}"]
        assert len(wrapped) == len(alone)
        for got, want in zip(wrapped, alone, strict=True):
            assert got == pytest.approx(want, rel=1e-5, abs=1e-6)


def one_flat(params: list[Parameter]) -> list[Parameter]:
    """One vector in place of all, as DeepSpeed ZeRO makes."""
    return [Parameter(torch.cat([p.detach().flatten() for p in params]))]


def shard_of_each(params: list[Parameter]) -> list[Parameter]:
    """A vector for each, as some other wrappers make."""
    return [Parameter(p.detach().flatten()[: p.numel() // 2]) for p in params]


def reshaped(params: list[Parameter]) -> list[Parameter]:
    """The same parameters, flattened in place."""
    for p in params:
        p.grad = None
        p.data = p.data.flatten()
    return params


def layer(backend: Target, *names: str) -> list[Parameter]:
    """Whole parameters with gradients."""
    params = [weights(shape, device=backend.device) for shape in shapes(*(names or DEFAULT))]
    return with_grads(params)


DEFAULT = ("odd", "bias", "vector")


def with_grads(params: list[Parameter]) -> list[Parameter]:
    """Give each a gradient."""
    for p in params:
        p.grad = p.detach().cos()
    return params


@pytest.mark.parametrize("when", ["at once", "later", "copied", "pickled", "loaded"])
@pytest.mark.parametrize("flatten", [one_flat, shard_of_each, reshaped])
def test_flattened_after_construction(
    backend: Target, kind: Kind, flatten: Callable[..., Any], when: str
) -> None:
    """Vectors that came in the place of matrices stop the step before its start."""
    optimizer = kind.make(layer(backend), backend)
    if when != "at once":
        optimizer.step()
    if when == "copied":
        optimizer = copy.deepcopy(optimizer)
    if when == "pickled":
        optimizer = pickle.loads(pickle.dumps(optimizer))
    if when == "loaded":
        optimizer.load_state_dict(optimizer.state_dict())
    group = optimizer.param_groups[0]
    group["params"] = with_grads(flatten(group["params"]))
    message = str(fails_and_changes_nothing(optimizer, group["params"]))
    assert re.match(rf"parameter 0 of group 0 has shape .* flattened .*{FSDP2}", message), message


@pytest.mark.parametrize(
    "replace",
    [
        lambda mine: mine,
        lambda mine: mine[::-1],  # in another order
        lambda mine: [mine[1]],  # the vectors alone
        lambda mine: [*mine, Parameter(mine[1].detach().clone())],
        lambda mine: [Parameter(p.detach().clone()) for p in mine],
        lambda mine: [Parameter(p.detach().clone()) for p in (*mine, *mine[:2])],
        lambda mine: [Parameter(p.detach().clone()) for p in mine[1:]],
    ],
)
def test_other_whole_parameters(
    backend: Target, kind: Kind, replace: Callable[[list[Parameter]], list[Parameter]]
) -> None:
    """Whole parameters may come in the place of others, and are stepped."""
    optimizer = kind.make(layer(backend), backend)
    group = optimizer.param_groups[0]
    group["params"] = with_grads(replace(group["params"]))
    before = [p.detach().clone() for p in group["params"]]
    for _ in range(2):
        optimizer.step()
    assert not any(map(torch.equal, before, group["params"]))


def test_vectors_only(backend: Target, kind: Kind) -> None:
    """Where there were vectors alone, any vector is welcome: none is projected."""
    optimizer = kind.make(layer(backend, "bias", "one"), backend)
    group = optimizer.param_groups[0]
    group["params"] = with_grads(one_flat(group["params"]))
    optimizer.step()


def test_other_shape(backend: Target, kind: Kind) -> None:
    """A matrix may become one of another shape."""
    optimizer = kind.make(layer(backend), backend)
    params = optimizer.param_groups[0]["params"]
    p = params[0]
    p.grad = None
    p.data = p.data.new_ones(4, 3, 2)
    with_grads(params)
    optimizer.step()
    assert not torch.equal(p, torch.ones_like(p))


def test_group_without_gradient(backend: Target, kind: Kind) -> None:
    """What is frozen may be emptied, as offloading does."""
    optimizer, pairs = model(kind, backend)
    frozen = weights(*shapes("odd"), device=backend.device).requires_grad_(False)
    optimizer.add_param_group({"params": [frozen]})
    frozen.data = frozen.data.new_empty(0)
    run(optimizer, pairs, SCRIPT[:2])


def test_parameters_may_go(backend: Target, kind: Kind) -> None:
    """Nothing keeps a parameter alive that left its group, and swap_tensors finds no reference."""
    optimizer = kind.make(layer(backend), backend)
    params = optimizer.param_groups[0]["params"]
    p = params[0]
    torch.utils.swap_tensors(p, Parameter(torch.ones_like(p)))
    with_grads(params)
    optimizer.step()
    gone = weakref.ref(params.pop())
    optimizer.state.clear()
    optimizer.step()
    gc.collect()
    assert gone() is None
