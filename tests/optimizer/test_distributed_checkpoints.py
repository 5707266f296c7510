"""torch.distributed.checkpoint: a run that is resumed goes on as one that was never interrupted."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint import state_dict as dcp_state

from conftest import Kind
from optimizer import checkpoint_runs
from optimizer.checkpoint_runs import OPTIONS, WAYS, Run, differences
from parity.cases import shapes
from parity.pairs import weights
from parity.targets import Target

FLAT = OPTIONS["flat"]
#: torch's remark that it was started in one process.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes saw."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("torch was built without gloo")
    folder = tmp_path_factory.mktemp("two_processes")
    mp.spawn(checkpoint_runs.run, (str(folder),), nprocs=2)
    return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(2)]


def check(way: str, result: dict[str, Any]) -> None:
    """No difference; and no step but the one by which torch makes state where there is none."""
    assert result["differences"] == []
    assert result["steps"] == (1 if way == "torch" else 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("flat", OPTIONS)
def test_one_process(tmp_path: Path, kind: Kind, flat: str, way: str) -> None:
    """Groups, a frozen layer, an unused one and a tensor `lr` are as they were."""
    check(way, WAYS[way](kind.name, str(tmp_path), OPTIONS[flat]))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("flat", OPTIONS)
def test_two_processes(
    two_processes: list[dict[str, Any]], kind: Kind, flat: str, way: str
) -> None:
    """The same under DDP."""
    for results in two_processes:
        check(way, results[f"{kind.name} {flat} {way}"])


def test_handed_out(two_processes: list[dict[str, Any]], kind: Kind) -> None:
    """One process may have read the checkpoint for all."""
    for results in two_processes:
        check("handed out", results[f"{kind.name} handed out"])


def test_what_differs_is_seen(kind: Kind) -> None:
    """The comparison is no formality: weights, state and options each count."""
    run, other = Run(kind.name).train(0, 2), Run(kind.name).train(0, 2)
    assert differences(run, other) == []
    other.optimizer.param_groups[0]["lr"] = 0.05
    assert len(differences(run, other)) == 1
    other.train(2, 3)
    found = " ".join(differences(run, other))
    assert "weights of first.weight" in found and "state of first.weight" in found


@pytest.mark.parametrize("flat", OPTIONS)
def test_learning_rate(kind: Kind, tmp_path: Path, flat: str) -> None:
    """A tensor `lr` has the type, the device and the value that it has with torch's AdamW."""
    found = []
    for name in (kind.name, "AdamW"):
        run = Run(name)
        group = run.optimizer.param_groups[0]
        lr = group["lr"]
        run.saved(OPTIONS[flat])  # sets it to 0 for a while
        assert group["lr"] is lr
        run.train(0, 2).save(str(tmp_path / name), OPTIONS[flat])
        loaded = Run(name).load(str(tmp_path / name), OPTIONS[flat]).optimizer.param_groups
        found.append([(type(g["lr"]), torch.as_tensor(g["lr"])) for g in loaded])
    for (mine, value), (theirs, wanted) in zip(*found, strict=True):
        assert mine is theirs and torch.equal(value, wanted)
        assert (value.dtype, value.device) == (wanted.dtype, wanted.device)


@pytest.mark.parametrize("capturable", [False, True])
def test_torchs_own_step(backend: Target, kind: Kind, capturable: bool) -> None:
    """The step by which torch makes state changes no weight, wherever `lr` lives."""
    if reason := backend.unavailable(capturable=capturable):
        pytest.skip(reason)
    model = torch.nn.ParameterList(
        weights(shape, device=backend.device) for shape in shapes("odd", "bias")
    )
    before = copy.deepcopy([*model])
    lr = torch.tensor(0.1, device=backend.device)
    optimizer = kind.make(model, backend, lr=lr, weight_decay=0.1, capturable=capturable)
    saved = dcp_state.get_optimizer_state_dict(model, optimizer, options=FLAT)
    assert all(map(torch.equal, model, before)) and all(p.grad is None for p in model)
    assert optimizer.param_groups[0]["lr"] is lr and lr == 0.1
    assert len(optimizer.state) == 2
    dcp_state.set_optimizer_state_dict(model, optimizer, saved, options=FLAT)
    assert optimizer.param_groups[0]["lr"].device == lr.device


@pytest.mark.parametrize("keys", [(".view",), (".unused.",), (".view", ".unused.")], ids=str)
def test_absent_keys(kind: Kind, keys: tuple[str, ...]) -> None:
    """What a flattened checkpoint lacks, an outcome or all of a parameter, is none yet."""
    run, other = Run(kind.name).train(0, 3), Run(kind.name, seed=4)
    run.optimizer.init_state()
    other.optimizer.init_state()
    saved = copy.deepcopy(run.saved(FLAT))
    state = saved["optimizer"]
    absent = [k for k in state if k.startswith("state.") and any(key in f"{k}." for key in keys)]
    for key in absent:
        del state[key]
    assert absent
    other.set(saved, FLAT)
    assert all(
        f"state.{name}.{key}" not in absent for name, own in other.state().items() for key in own
    )
    run.train(3, 6)
    other.train(3, 6)
    other.optimizer.init_state()
    assert differences(run, other) == []


def test_missing_keys(kind: Kind, tmp_path: Path) -> None:
    """Torch does not read a checkpoint that lacks state which there is, unless it is allowed to."""
    Run(kind.name).train(0, 2).save(str(tmp_path), FLAT)  # without the state of the unused layer
    other = Run(kind.name, seed=4)
    other.optimizer.init_state()
    missing = r"Missing key in checkpoint state_dict: optimizer\.state\.unused\.weight"
    with pytest.raises(dcp.api.CheckpointException, match=missing):
        other.load(str(tmp_path), FLAT)
    other.load(str(tmp_path), FLAT, partial=True)


def test_state_that_was_not_there(kind: Kind) -> None:
    """Torch loads flattened state where there is state: init_state() completes a running one."""
    run, other = Run(kind.name), Run(kind.name, seed=4).train(0, 1)
    run.optimizer.init_state()
    state = run.train(0, 2).state()["unused.weight"]
    for value in state.values():
        value.fill_(2)
    other.optimizer.init_state()
    other.set(copy.deepcopy(run.saved(FLAT)), FLAT)
    assert differences(run, other) == []


@pytest.mark.parametrize("options", [{"projection": "off"}, {"projection": "layer"}], ids=str)
def test_other_projection(kind: Kind, tmp_path: Path, options: dict[str, Any]) -> None:
    """A checkpoint without outcomes, of a run that had none, brings its projection."""
    run, other = Run(kind.name, **options), Run(kind.name, seed=4)
    run.optimizer.init_state()
    other.optimizer.init_state()
    run.train(0, 3).save(str(tmp_path), FLAT)
    other.load(str(tmp_path), FLAT, partial=True).train(3, 6)
    run.train(3, 6)
    for state in other.state().values():
        assert not state.pop("view", torch.tensor(0))
    assert differences(run, other) == []


def older(saved: dict[str, Any]) -> dict[str, Any]:
    """What an older version, which had fewer options and no outcome, would have saved."""
    new = ("projection", "capturable", "state_dtype", "master_weights", "stochastic_rounding")
    return {
        key: value
        for key, value in saved.items()
        if key.rpartition(".")[2] not in (*new, "fused", "foreach", "differentiable", "view")
    }


def test_older_checkpoint(kind: Kind, tmp_path: Path) -> None:
    """Options that an older flattened checkpoint lacks are added from the optimizer's own."""
    run = Run(kind.name)
    run.optimizer.init_state()
    run.train(0, 3)
    saved = copy.deepcopy(run.saved(FLAT))
    saved["optimizer"] = older(saved["optimizer"])
    dcp.save(saved, checkpoint_id=tmp_path, no_dist=True)
    by_hand, by_torch = Run(kind.name, seed=4), Run(kind.name, seed=4)
    with pytest.raises(KeyError, match=r"param_groups\.first\.weight\."):
        Run(kind.name).set(saved, FLAT)  # in torch, which looks up every option
    by_hand.optimizer.init_state()
    filled = by_hand.saved(FLAT)["optimizer"] | saved["optimizer"]
    by_hand.set({**saved, "optimizer": filled}, FLAT)
    by_torch.optimizer.init_state()
    by_torch.load(str(tmp_path), FLAT, partial=True)
    run.train(3, 6)
    for other in (by_hand, by_torch):
        assert differences(run, other.train(3, 6)) == []
