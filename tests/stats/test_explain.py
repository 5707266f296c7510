"""explain(): known networks, an untouched model, groups for an optimizer, the command."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adamp_fused import FusedAdamP, FusedSGDP
from adamp_fused.stats import explain
from messages import message
from stats.commands import call
from stats.networks import NETWORKS, Detached, Tied, conv_norm, frozen, images, tokens, vectors


def batch_norm(bias: bool = True) -> nn.Module:
    """A convolution before a BatchNorm, and a head."""
    torch.manual_seed(0)
    return conv_norm(lambda: nn.BatchNorm2d(8), bias)


@pytest.mark.parametrize("case", NETWORKS, ids=lambda case: case[0])
def test_known_networks(case: tuple[str, Any, Any, dict[str, str]]) -> None:
    """What is invariant by mathematics is found, and no more."""
    name, make, inputs, expected = case
    torch.manual_seed(1)
    report = explain(make(), inputs())
    assert {w.name: f"{w.invariance} {w.projection}" for w in report.weights} == expected, name
    for weight in report.weights:
        decided = sum(weight.decisions.values())
        if weight.invariance in ("channel", "layer") and decided:
            assert weight.decisions[weight.invariance] == decided == 8
        assert weight.name in str(report)


def test_what_follows() -> None:
    """Through functions, shapes and parametrizations."""
    torch.manual_seed(0)
    followed = {w.name: w.followed_by for w in explain(Tied(), tokens()).weights}
    assert followed["block.q.weight"] == ("RMSNorm",)
    assert followed["block.mlp.1.weight"] == ("gelu",)
    assert set(followed["embedding.weight"]) == {"LayerNorm", "add", "the output"}
    assert explain(batch_norm(), images())["0.weight"].followed_by == ("BatchNorm",)


def test_reasons() -> None:
    """What the table cannot say is written below it."""
    torch.manual_seed(0)
    assert "detached" in str(explain(Detached(), vectors()))
    assert "is frozen" in explain(frozen(), vectors())["0.weight"].reason
    # Bias 0 makes a weight before LayerNorm seem invariant, and the test passes.
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4))
    nn.init.zeros_(model[0].bias)
    weight = explain(model, vectors())["0.weight"]
    assert weight.decisions["layer"] == 8
    assert (weight.invariance, weight.projection) == ("none", "auto")
    assert "biases" in weight.reason
    with pytest.raises(KeyError, match="two or more"):
        explain(model, vectors())["0.bias"]


def test_some_rows() -> None:
    """A weight of which some rows are invariant is told so."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            normed, plain = self.linear(x).chunk(2, dim=1)
            return self.norm(normed) * plain

    torch.manual_seed(0)
    weight = explain(Half(), vectors())["linear.weight"]
    assert (weight.invariance, weight.rows_invariant, weight.rows_seen) == ("none", 4, 8)
    assert "4 of 8 rows" in weight.reason


def test_false_positives() -> None:
    """Near the 8 % of random gradients for a large weight; the test counts as often."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
    weight = explain(model, vectors(), losses=200)["2.weight"]
    counted = 1 - weight.decisions["none"] / 200
    assert 0.03 < counted < 0.15
    assert weight.false_positives == pytest.approx(counted, abs=0.05)
    assert explain(batch_norm(), images())["0.weight"].false_positives == 0


def test_decisions_are_those_of_a_step() -> None:
    """On gradients of the same loss, the optimizer comes to what the report says."""
    model, x = batch_norm(), images()

    def loss(output: Tensor) -> Tensor:
        return output.square().sum()

    report = explain(model, x, loss=loss, losses=1)
    loss(model(x)).backward()
    optimizer = FusedAdamP(model.parameters(), lr=1e-3)
    optimizer.step()
    for name in ("0.weight", "4.weight"):
        outcome = int(optimizer.state[model.get_parameter(name)]["view"])
        assert list(report[name].decisions.values())[outcome] == 1


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_alone(training: bool) -> None:
    """Weights, buffers, gradients, modes, hooks' inputs and random numbers are as before."""
    model = nn.Sequential(batch_norm(), nn.Dropout(0.5)).train(training)
    model[0][1].eval()
    x = images()
    model(x).sum().backward()
    before = copy.deepcopy(model)  # without gradients
    grads = [p.grad.clone() for p in model.parameters()]
    given = x.clone()
    states = torch.get_rng_state(), random.getstate()
    explain(model, x)
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert torch.equal(x, given) and not x.requires_grad
    for mine, theirs in zip(model.modules(), before.modules(), strict=True):
        assert mine.training == theirs.training
    for key, value in before.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    for mine, theirs in zip(model.parameters(), grads, strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine.grad, theirs)


def test_frozen_batch_norm() -> None:
    """Of a model in train mode, a BatchNorm in eval mode divides by a constant."""
    model = batch_norm()
    assert explain(model.eval(), images())["0.weight"].invariance == "channel"
    model.train()[1].eval()
    assert explain(model, images())["0.weight"].invariance == "none"


@pytest.mark.parametrize("optimizer", [FusedAdamP, FusedSGDP])
def test_param_groups(optimizer: Any) -> None:
    """All parameters are in one group each, with names, and a step can be made."""
    torch.manual_seed(0)
    model, x = Tied(), tokens()
    groups = explain(model, x).param_groups(model)
    by_name = {name: group["projection"] for group in groups for name, _ in group["params"]}
    assert by_name.keys() == dict(model.named_parameters()).keys()
    assert by_name["block.q.weight"] == "layer" and by_name["block.v.weight"] == "off"
    assert by_name["block.norm.weight"] == "auto"
    stepped = optimizer(groups, lr=1e-3)
    model(x).sum().backward()
    stepped.step()
    assert {group["projection"] for group in stepped.param_groups} == {"layer", "off", "auto"}
    other = nn.Linear(2, 2)
    assert "pass the model that was explained" in message(
        lambda: explain(model, x).param_groups(other)
    )


@pytest.mark.parametrize("given", ["tuple", "dictionary"])
def test_inputs_and_outputs(given: str) -> None:
    """Arguments by place and by name; outputs in a structure; float32 where it is asked for."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 4, bias=False), nn.LayerNorm(4)

        def forward(self, x: Tensor, scale: float) -> dict[str, Any]:
            assert x.dtype == torch.float32
            return {"mask": x > 0, "out": (self.b(self.a(x)) * scale, None)}

    torch.manual_seed(0)
    inputs = (vectors(), 2.0) if given == "tuple" else {"x": vectors(), "scale": 2.0}
    report = explain(Two(), inputs, dtype=torch.float32)
    assert report["a.weight"].invariance == "layer"
    assert "dtype=torch.float32" in message(lambda: explain(nn.Linear(3, 2), vectors()))


def test_errors() -> None:
    """They name the value, the requirement and the remedy."""
    model = nn.Linear(8, 2)
    x = vectors()
    assert "must be a torch.nn.Module" in message(lambda: explain(3, x))  # type: ignore[arg-type]
    assert "losses=0" in message(lambda: explain(model, x, losses=0))
    assert "tolerance=0" in message(lambda: explain(model, x, tolerance=0))
    assert "delta=-1" in message(lambda: explain(model, x, delta=-1))
    assert "is lazy" in message(lambda: explain(nn.LazyLinear(2), x))
    assert "meta device" in message(lambda: explain(nn.Linear(8, 2, device="meta"), x))
    assert "gradient of 'weight'" in message(lambda: explain(model, x * torch.nan))
    with pytest.warns(FutureWarning):
        old = nn.utils.weight_norm(nn.Linear(8, 2))
    assert "parametrizations.weight_norm" in message(lambda: explain(old, x))

    class Opaque(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return [str(super().forward(x))]

    assert "pass loss=" in message(lambda: explain(Opaque(8, 2), x))


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A table, or JSON; errors are one line."""
    (tmp_path / "zoo.py").write_text(
        "import torch\n"
        "def pair(): return torch.nn.Linear(8, 2), torch.randn(4, 8)\n"
        "def bare(): return torch.nn.Linear(8, 2)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "explain", "zoo:pair") == 0
    assert "projection" in capsys.readouterr().out
    assert call(monkeypatch, "explain", "zoo:pair", "--json", "--losses", "1") == 0
    assert json.loads(capsys.readouterr().out)["weights"][0]["projection"] == "off"
    for factory, said in {
        "zoo:bare": "example_input_array",
        "zoo:nothing": "must be a function",
        "zoo": "module:function",
        "no_such_module:x": "no_such_module",
    }.items():
        assert call(monkeypatch, "explain", factory) == 1
        assert said in capsys.readouterr().err
