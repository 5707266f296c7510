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


@pytest.mark.parametrize("strategy", ["FULL_SHARD", "NO_SHARD"])
def test_flat_parameters_of_fsdp1(
    two_processes: list[dict[str, Any]], kind: Kind, strategy: str
) -> None:
    """With use_orig_params=False nothing is whole, sharded or not."""
    for results in two_processes:
        said = results[f"{kind.name} {strategy} flat"]
        assert re.match(
            rf"TypeError: parameter 0 of group 0 .* FSDP1 .* flattened; .*{FSDP2}", said
        )


def test_sharded_afterwards(two_processes: list[dict[str, Any]], kind: Kind) -> None:
    """Parameters that become pieces after the optimizer was made are refused at the step."""
    for results in two_processes:
        said = results[f"{kind.name} FULL_SHARD made before True"]
        assert re.match(rf"ValueError: parameter . of group 0 .* is a flattened .*{FSDP2}", said)
        assert results[f"{kind.name} NO_SHARD made before True"] == ""


@pytest.mark.parametrize("strategy", ["FULL_SHARD", "NO_SHARD"])
def test_left_behind(two_processes: list[dict[str, Any]], kind: Kind, strategy: str) -> None:
    """So are those whose copies FSDP1 trains: a step would have nothing to do, ever."""
    for results in two_processes:
        said = results[f"{kind.name} {strategy} made before False"]
        assert re.match(rf"ValueError: no parameter .* has a gradient, and FSDP1 .*{FSDP2}", said)
        late = results[f"{kind.name} wrapped late"]
        assert re.match(rf"ValueError: no parameter .* has a gradient, and FSDP1 .*{FSDP2}", late)
        assert results[f"{kind.name} beside copies"] == "", "a module has these parameters"


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("strategy", ["FULL_SHARD", "SHARD_GRAD_OP"])
def test_steps_in_backward(
    two_processes: list[dict[str, Any]], kind: Kind, strategy: str, before: bool
) -> None:
    """An optimizer for each parameter, stepped by the backward pass, refuses its piece as well."""
    for results in two_processes:
        said = results[f"{kind.name} {strategy} in backward {before}"]
        assert re.match(rf"(Value|Type)Error: parameter 0 of group 0 .* FSDP1.*{FSDP2}", said)


@pytest.mark.parametrize("backend_name", ["cpu", "reference"])
@pytest.mark.parametrize("how", ["NO_SHARD", "DDP", "ZeRO False", "ZeRO True"])
def test_whole_parameters_of_wrappers(
    two_processes: list[dict[str, Any]], kind: Kind, how: str, backend_name: str
) -> None:
    """Wrappers that keep whole parameters train as one process does."""
    for results in two_processes:
        trained_alike(results, f"{kind.name} {backend_name}", how)


@pytest.mark.parametrize("before", [False, True])
def test_whole_parameters_in_backward(
    two_processes: list[dict[str, Any]], kind: Kind, before: bool
) -> None:
    """So they do where the backward pass makes the steps."""
    for results in two_processes:
        trained_alike(results, f"{kind.name} cpu", f"NO_SHARD in backward {before}")


def trained_alike(results: dict[str, Any], who: str, how: str) -> None:
    """Demand the weights that one process comes to."""
    alone, wrapped = results[f"{who} alone"], results[f"{who} {how}"]
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


def zero_2(optimizer: Any, rank: int) -> list[torch.Tensor]:
    """What DeepSpeed ZeRO, stages 1 and 2, makes of the groups in one of two processes.

    As in its DeepSpeedZeroOptimizer: a float32 copy of this process's half of all that a group has,
    padded, which is a tensor and no Parameter; the model's own parameters become views.
    """
    masters = []
    for group in optimizer.param_groups:
        whole = [p for p in group["params"] if p.requires_grad]
        flat = torch.cat([p.detach().flatten() for p in whole])
        flat = torch.cat([flat, flat.new_zeros(-flat.numel() % 4)])
        start = 0
        for p in whole:
            p.data = flat[start : start + p.numel()].view(p.shape)
            start += p.numel()
        master = flat.chunk(2)[rank].clone().float().detach()
        master.requires_grad = True
        group["params"] = [master]
        masters.append(master)
    return masters


def partitioned(params: list[Parameter], rank: int) -> list[torch.Tensor]:
    """What stage 3 makes of parameters: empty ones, whose halves are beside them."""
    for number, p in enumerate(params):
        p.ds_id, p.ds_shape, p.ds_numel = number, p.shape, p.numel()
        flat = torch.cat([p.detach().flatten(), p.new_zeros(p.numel() % 2)])
        p.ds_tensor = flat.chunk(2)[rank].clone()
        p.data = torch.empty(0, dtype=p.dtype, device=p.device)
    return [p.ds_tensor for p in params]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("stepped", [False, True])
def test_deepspeed_zero_2(backend: Target, kind: Kind, rank: int, stepped: bool) -> None:
    """The flat halves of stages 1 and 2 are refused at the first step, and nothing has changed."""
    optimizer = kind.make(two_groups(layer(backend)), backend)
    if stepped:
        optimizer.step()
        optimizer.state.clear()
    masters = zero_2(optimizer, rank)
    optimizer.step()  # none has a gradient yet
    for master in masters:
        master.grad = master.detach().cos()
    message = str(fails_and_changes_nothing(optimizer, masters))
    assert re.match(rf"parameter 0 of group 1 has shape .* DeepSpeed.*{FSDP2}", message), message


@pytest.mark.parametrize("rank", [0, 1])
def test_deepspeed_zero_3(backend: Target, kind: Kind, rank: int) -> None:
    """So are the flat pieces of stage 3, which steps one group at a time, first of all on zeros."""
    params = layer(backend)
    optimizer = kind.make(two_groups(params), backend)
    groups = optimizer.param_groups
    of_groups = [group["params"] for group in groups]
    for group in groups:
        group["params"] = []
    for group, params in zip(groups, of_groups, strict=True):
        flat = torch.cat(partitioned(params, rank)).clone().float().detach()
        flat.requires_grad = True
        flat.ds_id = f"{params[0].ds_id}_{params[-1].ds_id}"
        flat.grad = torch.zeros_like(flat)
        group["params"] = [flat]
        message = str(fails_and_changes_nothing(optimizer, [flat]))
        group["params"] = []
        assert re.match(rf"parameter 0 of group . .* DeepSpeed ZeRO .*{FSDP2}", message), message


@pytest.mark.parametrize("names", [DEFAULT, ("bias",)])
def test_made_of_deepspeed_zero_3(backend: Target, kind: Kind, names: tuple[str, ...]) -> None:
    """Parameters that were partitioned as they were made show it to the optimizer at once."""
    params = layer(backend, *names)
    partitioned(params, 0)
    with pytest.raises(TypeError, match=rf"^parameter 0 of group 0 .* DeepSpeed ZeRO .*{FSDP2}"):
        kind.make(params, backend)


def two_groups(params: list[Parameter]) -> list[dict[str, Any]]:
    """Vectors in a group of their own, without weight decay, as is common."""
    vectors = [p for p in params if p.dim() < 2]
    return [
        {"params": vectors, "weight_decay": 0.0},
        {"params": [p for p in params if p.dim() > 1]},
    ]


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
