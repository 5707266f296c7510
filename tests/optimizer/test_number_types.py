"""Options as configuration systems give them: numpy numbers, sequences, other mappings, strings."""

import io
import re
import types
from collections import UserDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from conftest import KINDS, Kind
from parity.cases import shapes
from parity.gradients import SCRIPT
from parity.pairs import model, run, weights
from parity.targets import Target

ADAMP = KINDS[0]


class Betas(NamedTuple):
    """A tuple of a class of its own."""

    beta1: float
    beta2: float


class ListLike(Sequence):  # type: ignore[type-arg]
    """A sequence that is no list, as omegaconf.ListConfig."""

    def __init__(self, *values: Any) -> None:
        """Keep the values."""
        self.values = values

    def __getitem__(self, index: Any) -> Any:
        """The value at an index."""
        return self.values[index]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.values)


PAIRS: dict[str, Any] = {
    "tuple_subclass": Betas(0.5, 0.75),
    "list": [0.5, 0.75],
    "sequence": ListLike(0.5, 0.75),
    "array": np.array([0.5, 0.75]),
    "tensor": torch.tensor([0.5, 0.75]),
    "numpy_numbers": (np.float32(0.5), np.array(0.75)),
}
NUMBERS: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "array": np.array,
    "float32_array": lambda x: np.array(x, dtype=np.float32),
    "tensor": torch.tensor,
}


class Counted:
    """Counts the plans that an optimizer makes."""

    def __init__(self, optimizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Count from here on."""
        self.plans, plan_anew = 0, optimizer._plan_anew

        def counting() -> Any:
            self.plans += 1
            return plan_anew()

        monkeypatch.setattr(optimizer, "_plan_anew", counting)


def planned_once(backend: Target, counted: Counted) -> bool:
    """The reference plans every step; whoever else did so could not read an option."""
    return backend.name == "reference" or counted.plans == 1


@pytest.mark.parametrize("later", [False, True], ids=["at construction", "later"])
@pytest.mark.parametrize("which", PAIRS)
def test_betas(backend: Target, which: str, later: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any sequence of two numbers is a pair of betas, and costs no plan at each step."""
    optimizer, pairs = model(ADAMP, backend, betas=(0.5, 0.75))
    if later:
        optimizer.param_groups[0]["betas"] = PAIRS[which]
    else:
        params = optimizer.param_groups[0]["params"]
        options = {key: optimizer.defaults[key] for key in ("lr", "weight_decay")}
        optimizer = ADAMP.make(params, backend, **options, betas=PAIRS[which])
    counted = Counted(optimizer, monkeypatch)
    run(optimizer, pairs, SCRIPT[:3])
    assert planned_once(backend, counted)


@pytest.mark.parametrize("later", [False, True], ids=["at construction", "later"])
@pytest.mark.parametrize("which", NUMBERS)
def test_numbers(
    backend: Target, kind: Kind, which: str, later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of numpy are numbers, arrays without dimensions too."""
    options: dict[str, Any] = {"lr": 0.125, "eps": 2.0**-10, "weight_decay": 0.25}
    options |= {"delta": 0.125, "wd_ratio": 0.5}
    options |= {"momentum": 0.5, "dampening": 0.25} if kind.name == "SGDP" else {}
    converted = {name: NUMBERS[which](value) for name, value in options.items()}
    optimizer, pairs = model(kind, backend, **options)
    if later:
        optimizer.param_groups[0].update(converted)
    else:
        optimizer = kind.make(optimizer.param_groups[0]["params"], backend, **converted)
    counted = Counted(optimizer, monkeypatch)
    run(optimizer, pairs, SCRIPT[:3])
    assert planned_once(backend, counted)


def test_plain_numbers_are_kept(kind: Kind) -> None:
    """What a file without arbitrary code cannot keep is not kept: no array, no foreign sequence."""
    options: dict[str, Any] = {"lr": np.float64(0.1), "eps": np.array(1e-6), "maximize": np.True_}
    if kind.name == "AdamP":
        options["betas"] = ListLike(np.float64(0.5), 0.75)
    optimizer = kind.make([{"params": weights(*shapes("odd")), **options}], **options)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    (group,) = torch.load(file, weights_only=True)["param_groups"]
    assert group["lr"] == 0.1 and group["eps"] == 1e-6 and group["maximize"] is True
    assert group.get("betas", (0.5, 0.75)) == (0.5, 0.75)
    assert {type(value) for value in optimizer.defaults.values()} <= {
        *(float, int, bool, str, tuple, type(None))
    }


def test_tensors_stay(kind: Kind) -> None:
    """A tensor stays the one that its owner writes into."""
    lr = torch.tensor(0.1)
    assert kind.make([weights(*shapes("odd"))], lr=lr).param_groups[0]["lr"] is lr


@pytest.mark.parametrize("value", ["1e-3", "0.9"])
def test_strings(kind: Kind, value: str) -> None:
    """A string is refused, and YAML is named, which makes them."""
    for name in ("lr", "weight_decay", *(["momentum"] if kind.name == "SGDP" else [])):
        message = rf"{name}='{value}' is a string .*YAML reads 1e-3 as a string: write 1.0e-3"
        with pytest.raises(TypeError, match=message):
            kind.make([weights(*shapes("odd"))], **{name: value})


@pytest.mark.parametrize(
    "value",
    [
        *("ab", b"ab", {0.9: 1, 0.99: 1}, {0.9, 0.99}, 0.9, None, (0.9,), [0.9, 0.99, 0.999]),
        *(np.ones(3), np.array(0.5), torch.ones(3), torch.tensor(0.5)),
    ],
    ids=repr,
)
def test_no_pair(backend: Target, value: Any) -> None:
    """What is no sequence of two is refused, at construction and later."""
    message = re.escape(f"betas={value!r} must be a sequence of two numbers, for example betas=(")
    with pytest.raises(ValueError, match=message):
        ADAMP.make([weights(*shapes("odd"))], betas=value)
    optimizer, pairs = model(ADAMP, backend)
    run(optimizer, pairs, SCRIPT[:1])
    optimizer.param_groups[0]["betas"] = value
    with pytest.raises(ValueError, match=message):
        optimizer.step()


@pytest.mark.parametrize("value", [np.array(1j), np.array("0.1"), np.array([0.1]), 1j])
def test_no_number(kind: Kind, value: Any) -> None:
    """An array of something else is no number."""
    with pytest.raises(TypeError, match=r"lr=.* must be a number"):
        kind.make([weights(*shapes("odd"))], lr=value)


def groups_of(net: nn.Module) -> dict[str, dict[str, Any]]:
    """Two groups by name."""
    return {
        "matrices": {"params": [p for p in net.parameters() if p.dim() > 1], "lr": 0.5},
        "vectors": {"params": [p for p in net.parameters() if p.dim() < 2]},
    }


@pytest.mark.parametrize(
    "give",
    [
        lambda groups: tuple(groups.values()),
        lambda groups: groups.values(),
        lambda groups: (group for group in groups.values()),
        lambda groups: [types.MappingProxyType(group) for group in groups.values()],
        lambda groups: (UserDict(group) for group in groups.values()),
        lambda groups: [{**g, "params": nn.ParameterList(g["params"])} for g in groups.values()],
    ],
)
def test_groups(backend: Target, kind: Kind, give: Any) -> None:
    """Groups may come in any sequence and be any mapping; they are kept as torch keeps them."""
    net = nn.Linear(3, 4).to(backend.device)
    optimizer = kind.make(give(groups_of(net)), backend)
    assert [type(group) for group in optimizer.param_groups] == [dict, dict]
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, kind.options["lr"]]
    more = weights(*shapes("odd"), device=backend.device)
    optimizer.add_param_group(types.MappingProxyType({"params": more, "lr": 0.25}))
    for p in (*net.parameters(), more):
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert len(optimizer.state) == 3


def test_what_torch_refuses(kind: Kind) -> None:
    """A tensor, a set and nothing at all are refused in torch's words."""
    for params, words in (
        (torch.ones(3), "iterable of Tensors or dicts"),
        ([], "empty parameter list"),
        ([{"params": set()}], "sets will change between runs"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            kind.make(params)
