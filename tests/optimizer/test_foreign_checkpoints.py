"""Checkpoints of others: what can be used is taken over, and nothing is lost without a word."""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint import state_dict as dcp
from torch.nn import Parameter
from torch.optim.lr_scheduler import LambdaLR

from conftest import KINDS, Kind
from parity.cases import STATE_KEYS, shapes
from parity.gradients import SCRIPT
from parity.pairs import Pair, model, run, weights
from parity.targets import Target

ADAMP, SGDP = KINDS
FLAT = dcp.StateDictOptions(flatten_optimizer_state_dict=True)


@pytest.fixture(autouse=True)
def no_warnings() -> Any:
    """A warning is an error where none is expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def stepped(optimizer: Any, params: list[Parameter], steps: int = 3) -> dict[str, Any]:
    """Step another optimizer; give its state dict."""
    for number in range(steps):
        for p in params:
            p.grad = (p.detach() + number).cos()
        optimizer.step()
    return optimizer.state_dict()


def continued(
    kind: Kind, backend: Target, saved: dict[str, Any], params: list[Parameter], **state: Any
) -> Any:
    """Load, and follow the oracle from the state that is said to be loaded."""
    optimizer = kind.make([p.detach().clone().requires_grad_() for p in params], backend)
    optimizer.load_state_dict(copy.deepcopy(saved))
    group = optimizer.param_groups[0]
    own = ("lr", "betas", "eps", "weight_decay", "momentum", "dampening", "nesterov", "maximize")
    own += ("delta", "wd_ratio")
    options = {name: group[name] for name in own if name in kind.make([params[0]]).defaults}
    pairs = []
    for index, p in enumerate(group["params"]):
        shape = shapes("odd", "bias")[index]
        pair = Pair(shape, p, kind.name, options, backend)
        for key, theirs in state.items():
            value = saved["state"][index][theirs] if isinstance(theirs, str) else theirs
            is_tensor = isinstance(value, torch.Tensor) and value.dim() > 0
            pair.twin_state[key] = value.double().cpu() if is_tensor else value
        pairs.append(pair)
    run(optimizer, pairs, SCRIPT[:2])
    return optimizer


def two(backend: Target) -> list[Parameter]:
    """A matrix and a vector."""
    return [weights(shape, device=backend.device) for shape in shapes("odd", "bias")]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(backend: Target, nesterov: bool) -> None:
    """SGD's buffer is SGDP's momentum."""
    params = two(backend)
    options = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1, "nesterov": nesterov}
    saved = stepped(torch.optim.SGD(params, **options), params)
    optimizer = continued(SGDP, backend, saved, params, momentum="momentum_buffer")
    assert all("momentum_buffer" not in state for state in optimizer.state.values())
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_sgd_without_momentum(backend: Target) -> None:
    """SGD without a buffer has None there: nothing to take over, and nothing to tell."""
    params = two(backend)
    saved = stepped(torch.optim.SGD(params, lr=0.01), params)
    saved["state"] = {index: {"momentum_buffer": None} for index in range(2)}
    continued(SGDP, backend, saved, params)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_adam(backend: Target, name: str) -> None:
    """Adam and AdamW have the same state."""
    params = two(backend)
    saved = stepped(getattr(torch.optim, name)(params, lr=0.01, fused=False), params)
    moments = {key: key for key in STATE_KEYS["AdamP"]}
    continued(ADAMP, backend, saved, params, step=3, **moments)


def test_amsgrad(backend: Target) -> None:
    """Amsgrad's maximum has no use here, which is told, once; the rest is taken over."""
    params = two(backend)
    saved = stepped(torch.optim.AdamW(params, lr=0.01, amsgrad=True), params)
    message = (
        r"state has 'max_exp_avg_sq', which FusedAdamP does not use and was made with "
        r"amsgrad=True, which FusedAdamP does not do; was it saved by another"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        continued(ADAMP, backend, saved, params, step=3, exp_avg="exp_avg", exp_avg_sq="exp_avg_sq")
    assert len(caught) == 1


#: Values that no optimizer has by default, so that it is seen that they are taken over.
COMMON = {"lr": 0.02, "weight_decay": 0.05, "nesterov": True, "eps": 1e-6, "wd_ratio": 0.2}
OFFICIAL = {
    "AdamP": {**COMMON, "betas": (0.8, 0.95)},
    "SGDP": {**COMMON, "momentum": 0.8, "dampening": 0.1},
}


@pytest.mark.parametrize("by", ["adamp", "timm"])
def test_official(backend: Target, kind: Kind, by: str) -> None:
    """A run of adamp, or of timm, goes on with its options, its moments and its count."""
    params = two(backend)
    saved = stepped(kind.official(params, **OFFICIAL[kind.name]), params)
    if by == "timm":
        as_timm(saved)
    state = {key: key for key in STATE_KEYS[kind.name]}
    state |= {"step": "step"} if kind.name == "AdamP" else {}
    optimizer = continued(kind, backend, saved, params, **state)
    group = optimizer.param_groups[0]
    assert {name: group[name] for name in OFFICIAL[kind.name]} == OFFICIAL[kind.name]
    assert "caution" not in group
    assert by != "timm" or group["initial_lr"] == 0.04, "what belongs to schedulers is kept"


def as_timm(saved: dict[str, Any], caution: bool = False) -> None:
    """Make of adamp's state dict what timm 1.0.31 would have saved.

    Its AdamP and SGDP are copies of adamp's, with the same state, a count that is an integer, and
    one option more; its schedulers add ``initial_lr``. timm itself is not needed.
    """
    saved["param_groups"][0] |= {"caution": caution, "initial_lr": 0.04}


def test_cautious(backend: Target, kind: Kind) -> None:
    """That timm's run was a cautious one is told, once: not again by what is saved then."""
    params = two(backend)
    saved = stepped(kind.official(params), params)
    as_timm(saved, caution=True)
    optimizer = kind.make(params, backend)
    with pytest.warns(UserWarning, match=r"was made with caution=True, which Fused.* not do;") as w:
        optimizer.load_state_dict(saved)
    assert len(w) == 1
    kind.make(params, backend).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_decay_in_the_gradient(backend: Target, name: str, weight_decay: float) -> None:
    """Adam's decay, a part of its gradient, becomes decoupled, which is told."""
    params = two(backend)
    saved = stepped(getattr(torch.optim, name)(params, weight_decay=weight_decay), params)
    optimizer = ADAMP.make(params, backend)
    if name == "AdamW" or not weight_decay:
        optimizer.load_state_dict(saved)
    else:
        with pytest.warns(UserWarning, match="was made with decoupled_weight_decay=False, which"):
            optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["weight_decay"] == weight_decay


@pytest.mark.parametrize("count", [3, torch.tensor(3.0)])
def test_count_of_the_group(backend: Target, count: Any) -> None:
    """Some optimizers keep one count in the group: it becomes that of each parameter."""
    params = two(backend)
    saved = stepped(torch.optim.AdamW(params, lr=0.01), params)
    saved["param_groups"][0]["step"] = count
    for state in saved["state"].values():
        del state["step"]
    moments = {key: key for key in STATE_KEYS["AdamP"]}
    optimizer = continued(ADAMP, backend, saved, params, step=3, **moments)
    assert "step" not in optimizer.param_groups[0]
    assert [state["step"].item() for state in optimizer.state.values()] == [5, 5]
    counts = [state["step"] for state in optimizer.state.values()]
    assert counts[0].data_ptr() != counts[1].data_ptr()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("step"), "lacks 'step', which will start from zero"),
        (lambda state: state.pop("exp_avg_sq"), "lacks 'exp_avg_sq', which will"),
        (lambda state: state.update(ema=1.0), "has 'ema', which FusedAdamP does not use"),
        (lambda state: state.update(state1=state.pop("exp_avg")), "has 'state1'.* lacks 'exp_avg'"),
    ],
)
def test_told(backend: Target, spoil: Any, message: str) -> None:
    """What is missing beside the rest, and what nobody uses, is told by name, once for each."""
    optimizer, pairs = model(ADAMP, backend, "odd", "bias")
    run(optimizer, pairs, SCRIPT[:2])
    saved = optimizer.state_dict()
    saved["state"] = {index: dict(state) for index, state in saved["state"].items()}
    for state in saved["state"].values():
        spoil(state)
    with pytest.warns(UserWarning, match=message) as caught:
        optimizer.load_state_dict(saved)
    assert len(caught) == 1 and caught[0].filename == __file__
    for state in optimizer.state.values():
        assert "ema" not in message or state["ema"] == 1.0, "the user's own is kept"
    for pair in pairs:
        pair.p.grad = torch.ones_like(pair.p)
    optimizer.step()


def test_other_optimizer(backend: Target, kind: Kind) -> None:
    """State of the other optimizer is not loaded without a word."""
    other = SGDP if kind is ADAMP else ADAMP
    params = two(backend)
    saved = stepped(other.make(params, backend), params)
    optimizer = kind.make(params, backend)
    keys = ", ".join(map(repr, STATE_KEYS[kind.name]))
    with pytest.warns(UserWarning, match=rf"does not use and lacks {keys}"):
        optimizer.load_state_dict(saved)


def test_own(backend: Target, kind: Kind) -> None:
    """Our own checkpoints, and those of adamp, load without a warning; so do partial ones."""
    params = two(backend)
    for options in ({}, {"projection": "off"}):
        saved = stepped(kind.make(params, backend, **options), params)
        kind.make(params, backend).load_state_dict(saved)
    one = kind.make(params, backend)
    params[1].grad = None
    one.step()
    kind.make(params, backend).load_state_dict(one.state_dict())
    theirs = stepped(kind.official(params), params)
    kind.make(params, backend).load_state_dict(theirs)


def test_state_of_a_wrapper(backend: Target, kind: Kind) -> None:
    """The slow weights that timm's Lookahead keeps in the state are kept, without a warning."""
    params = two(backend)
    saved = stepped(kind.make(params, backend), params)
    for state in saved["state"].values():
        state["lookahead_slow_buff"] = torch.ones(3)
    optimizer = kind.make(params, backend)
    optimizer.load_state_dict(saved)
    assert all("lookahead_slow_buff" in state for state in optimizer.state.values())
    stepped(optimizer, params, 1)


def test_hooks(backend: Target) -> None:
    """Hooks before the load may rename for themselves; hooks after it see what was taken over."""
    params = two(backend)
    saved = stepped(torch.optim.SGD(params, lr=0.01, momentum=0.9), params)
    optimizer = SGDP.make(params, backend)
    seen = []

    def before(_: Any, loaded: dict[str, Any]) -> dict[str, Any]:
        state = {k: {"momentum": v["momentum_buffer"]} for k, v in loaded["state"].items()}
        return {**loaded, "state": state}

    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(o.state[params[0]].keys()))
    optimizer.load_state_dict(saved)
    handle = optimizer.register_load_state_dict_pre_hook(before)
    optimizer.load_state_dict(saved)
    handle.remove()
    assert [list(keys) for keys in seen] == [["momentum"]] * 2


class Net(nn.Module):
    """A matrix and a vector by name."""

    def __init__(self, backend: Target) -> None:
        """Weights of named shapes."""
        super().__init__()
        self.matrix, self.vector = two(backend)


def flat_round(saved: dict[str, Any], net: nn.Module, optimizer: Any) -> None:
    """Load a flattened checkpoint; torch looks up every key of the optimizer's groups in it."""
    current = dcp.get_optimizer_state_dict(net, optimizer, options=FLAT)
    view = {key: value for key, value in current.items() if not key.endswith(".view")}
    dcp.set_optimizer_state_dict(net, optimizer, view | saved, options=FLAT)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("projection", ["auto", "off"])
def test_distributed_checkpoint(backend: Target, kind: Kind, flat: bool, projection: str) -> None:
    """A distributed checkpoint goes on, flattened too, where an absent outcome comes back as {}."""
    options = dcp.StateDictOptions(flatten_optimizer_state_dict=flat)
    net, twin = Net(backend), Net(backend)
    optimizer = kind.make(net.parameters(), backend, projection=projection)
    stepped(optimizer, [*net.parameters()])
    twin.load_state_dict(net.state_dict())
    other = kind.make(twin.parameters(), backend)
    saved = copy.deepcopy(dcp.get_optimizer_state_dict(net, optimizer, options=options))
    dcp.set_optimizer_state_dict(twin, other, saved, options=options)
    assert other.param_groups[0]["projection"] == projection
    for one in (optimizer, other):
        one.param_groups[0]["projection"] = "auto"
        params = one.param_groups[0]["params"]
        stepped(one, params, 2)
    assert all(map(torch.equal, net.parameters(), twin.parameters()))


class Parts(nn.Module):
    """Two parts of a model, as pipeline parallelism makes them."""

    def __init__(self, backend: Target) -> None:
        """The same weights twice, by other names."""
        super().__init__()
        self.first, self.second = Net(backend), Net(backend)


def container(net: Parts, backend: Target) -> list[tuple[Any, LambdaLR]]:
    """An optimizer of each kind, made of named parameters, and a scheduler for each."""
    made = []
    for kind, name, part in ((ADAMP, "first", net.first), (SGDP, "second", net.second)):
        named = [(f"{name}.{key}", p) for key, p in part.named_parameters()]
        optimizer = kind.make(named, backend)
        made.append((optimizer, LambdaLR(optimizer, lambda step: 0.5**step)))
    return made


def advance(optimizer: Any, scheduler: LambdaLR) -> None:
    """Two steps, of which the second has another learning rate."""
    for _ in range(2):
        stepped(optimizer, optimizer.param_groups[0]["params"], 1)
        scheduler.step()


def test_merged_checkpoint(backend: Target) -> None:
    """The flat dictionaries of several optimizers are one checkpoint, from which each goes on."""
    net, twin = Parts(backend), Parts(backend)
    saved: dict[str, Any] = {}
    theirs, mine = container(net, backend), container(twin, backend)
    for optimizer, scheduler in theirs:
        advance(optimizer, scheduler)
        flat = dcp.get_optimizer_state_dict(net, optimizer, options=FLAT)
        assert not saved.keys() & flat.keys()
        saved |= copy.deepcopy(flat)
    twin.load_state_dict(net.state_dict())
    for (optimizer, scheduler), (other, schedule) in zip(mine, theirs, strict=True):
        dcp.set_optimizer_state_dict(twin, optimizer, saved, options=FLAT)
        scheduler.load_state_dict(schedule.state_dict())
        for key in ("lr", "initial_lr", "param_names"):
            assert optimizer.param_groups[0][key] == other.param_groups[0][key]
        advance(optimizer, scheduler)
        advance(other, schedule)
    assert all(map(torch.equal, net.parameters(), twin.parameters()))


def test_flattened_checkpoint_of_the_official_package(backend: Target, kind: Kind) -> None:
    """With what it does not know filled in from the optimizer, adamp's checkpoint goes on."""
    net, twin = Net(backend), Net(backend)
    official = kind.official(net.parameters())
    stepped(official, [*net.parameters()])
    saved = dcp.get_optimizer_state_dict(net, official, options=FLAT)
    optimizer = kind.make(twin.parameters(), backend)
    flat_round(saved, twin, optimizer)
    for p, mine in zip(net.parameters(), twin.parameters(), strict=True):
        theirs, state = official.state[p], optimizer.state[mine]
        assert set(state) == {*STATE_KEYS[kind.name], *(["step"] if kind.name == "AdamP" else [])}
        assert all(torch.equal(state[key], theirs[key]) for key in STATE_KEYS[kind.name])
    stepped(optimizer, [*twin.parameters()], 1)


def test_absent_entries(backend: Target, kind: Kind) -> None:
    """Directly loaded, {} for a key is none, and an absent option is the default."""
    optimizer, pairs = model(kind, backend)
    run(optimizer, pairs, SCRIPT[:2])
    saved = optimizer.state_dict()
    group = saved["param_groups"][0]
    kept = {name: group[name] for name in ("params", "lr", "weight_decay")}
    state = {index: {**entry, "view": {}} for index, entry in saved["state"].items()}
    optimizer = kind.make([pair.p for pair in pairs], backend)
    optimizer.load_state_dict({"state": state, "param_groups": [kept]})
    assert all("view" not in entry for entry in optimizer.state.values())
    assert optimizer.param_groups[0]["projection"] == "auto"
    run(optimizer, pairs, SCRIPT[2:4])
