"""timm: both optimizers by name, with its parameter groups, schedulers and Lookahead."""

import copy
import logging
from typing import Any

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.nn.functional import cross_entropy

import adamp_fused.timm
from conftest import Kind
from frameworks.comparing import assert_same_bits, values

MODELS: dict[str, dict[str, Any]] = {"test_vit": {"img_size": 64}, "test_resnet": {}}
LR = {"AdamP": 1e-3, "SGDP": 1e-2}
STEPS = 14  # Lookahead comes back to its slow weights after 12


@pytest.fixture(autouse=True)
def registered() -> None:
    """What a user calls once."""
    adamp_fused.timm.register()


class Run:
    """A training with what timm makes: a model, an optimizer by name, a scheduler."""

    def __init__(self, model: str, opt: str, lr: float, **options: Any) -> None:
        """Options are those of timm's factory."""
        torch.manual_seed(0)
        self.model = timm.create_model(model, num_classes=3, **MODELS[model])
        self.optimizer = create_optimizer_v2(self.model, opt, lr=lr, weight_decay=0.05, **options)
        steps = {"t_initial": STEPS, "warmup_t": 2, "t_in_epochs": False}
        self.scheduler = CosineLRScheduler(self.optimizer, **steps)
        self.losses: list[float] = []

    def train(self, first: int, last: int) -> None:
        """Steps of these numbers."""
        rng = torch.Generator().manual_seed(1)
        pictures, labels = torch.randn(6, 3, 64, 64, generator=rng), torch.arange(6) % 3
        for step in range(first, last + 1):
            self.scheduler.step_update(step)
            self.optimizer.zero_grad()
            loss = cross_entropy(self.model(pictures), labels)
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())


def distance(model: nn.Module, other: nn.Module) -> float:
    """Between all weights of two models."""
    vectors = (nn.utils.parameters_to_vector(m.parameters()) for m in (model, other))
    return torch.dist(*vectors).item()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("how", ["plain", "layer_decay", "lookahead"])
def test_equals_timms_own(kind: Kind, model: str, how: str) -> None:
    """The same groups, losses and weights as timm's own optimizer of the method."""
    options = {"layer_decay": 0.7} if how == "layer_decay" else {}
    prefix, name, lr = "lookahead_" if how == "lookahead" else "", kind.name.lower(), LR[kind.name]
    ours = Run(model, f"{prefix}fused{name}", lr, **options)
    theirs, start = (Run(model, f"{prefix}{name}", lr, **options) for _ in range(2))
    for run in (ours, theirs):
        run.train(1, STEPS)
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-4)
    # In AdamP a weight whose gradient is nothing but rounding goes its own way, as far as others.
    apart, way = (distance(ours.model, other) for other in (theirs.model, start.model))
    assert apart < 0.01 * way
    mine, other = ours.optimizer.param_groups, theirs.optimizer.param_groups
    assert len(mine) == len(other) >= (6 if how == "layer_decay" else 2)
    for group, twin in zip(mine, other, strict=True):
        shared = (twin.keys() & group.keys()) - {"params"}
        assert {key: group[key] for key in shared} == {key: twin[key] for key in shared}
        assert twin.keys() - shared == {"params", "caution"}
    assert 0.0 in {group["weight_decay"] for group in mine}


@pytest.mark.parametrize("prefix", ["", "lookahead_"])
def test_resume(kind: Kind, prefix: str, recwarn: pytest.WarningsRecorder) -> None:
    """A run that was saved and resumed comes to the same bits, and without a warning."""
    name = f"{prefix}fused{kind.name.lower()}"
    whole, resumed = (Run("test_resnet", name, LR[kind.name]) for _ in range(2))
    whole.train(1, 7)
    resumed.model.load_state_dict(whole.model.state_dict())
    resumed.optimizer.load_state_dict(copy.deepcopy(whole.optimizer.state_dict()))
    for run in (whole, resumed):
        run.train(8, STEPS)
    assert_same_bits(values(resumed.model), values(whole.model))
    assert not recwarn.list


def test_registered_as_timms_own(kind: Kind) -> None:
    """Whatever timm knows of its own optimizer it knows of ours."""
    theirs = get_optimizer_info(kind.name.lower())
    ours = get_optimizer_info(f"fused{kind.name.lower()}")
    for key in ("has_eps", "has_momentum", "has_betas", "num_betas", "second_order", "defaults"):
        assert getattr(ours, key) == getattr(theirs, key), key


def test_registered_again(caplog: pytest.LogCaptureFixture) -> None:
    """A second call is silent; timm would warn of a name that it knows."""
    before = list_optimizers()
    with caplog.at_level(logging.WARNING):
        adamp_fused.timm.register()
    assert list_optimizers() == before and not caplog.records
