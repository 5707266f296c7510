"""Lightning: its precisions with and without clipping, and runs that go on from a checkpoint."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from conftest import Kind
from frameworks.comparing import OPTIONS, assert_same_bits, dataset, net, state, values

CLIP = 0.5
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


class Module(lightning.LightningModule):
    """The network, and an optimizer with a scheduler for each step."""

    def __init__(self, kind: Kind, official: bool = False, **options: Any) -> None:
        """Options are the optimizer's."""
        super().__init__()
        self.net, self.losses = net(), []
        self.make = kind.official if official else kind.make
        self.options = OPTIONS[kind.name] | options

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of one batch."""
        pictures, labels = batch
        loss = cross_entropy(self.net(pictures).float(), labels)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimizer under test."""
        optimizer = self.make(self.net.parameters(), **self.options)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def trainer(precision: str, clip: float | None = None, epochs: int = 1) -> lightning.Trainer:
    """A Trainer on the CPU, six steps an epoch."""
    options: dict[str, Any] = {"precision": precision}
    if precision == "16-mixed":
        # Asked for it by name, Lightning takes bfloat16 on a CPU. This is what it makes on a GPU,
        # with a scale at which the first steps overflow and are skipped.
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**18)
        options = {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        gradient_clip_val=clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def fit(module: Module, runs: lightning.Trainer, checkpoint: Path | None = None) -> Module:
    """Train to the end."""
    runs.fit(module, DataLoader(dataset(), batch_size=32), ckpt_path=checkpoint)
    return module


def optimizer_of(runs: lightning.Trainer) -> Any:
    """The one optimizer."""
    (optimizer,) = runs.optimizers
    return optimizer


@pytest.mark.parametrize("clip", [None, CLIP])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_follows_official(kind: Kind, precision: str, clip: float | None) -> None:
    """The losses are those of the official package's optimizer; clipping makes a difference."""
    ours = fit(Module(kind), trainer(precision, clip)).losses
    theirs = fit(Module(kind, official=True), trainer(precision, clip)).losses
    assert ours == pytest.approx(theirs, rel=1e-4 if precision == "32-true" else 2e-2)
    assert len(ours) == 6 and ours[-1] < ours[0]
    if clip is not None and kind.name == "SGDP":  # AdamP takes a scaled gradient for the same
        assert ours != pytest.approx(fit(Module(kind), trainer(precision)).losses, rel=2e-2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_own_clipping(kind: Kind, precision: str) -> None:
    """`max_grad_norm` clips as Lightning does."""
    clipped = fit(Module(kind), trainer(precision, CLIP))
    ours = fit(Module(kind, max_grad_norm=CLIP), trainer(precision))
    torch.testing.assert_close(values(ours), values(clipped), rtol=1e-4, atol=1e-5)


def test_own_unscaling(kind: Kind) -> None:
    """With `grad_scaling` Lightning leaves unscaling to the step, and refuses to clip itself."""
    by_lightning = fit(Module(kind, max_grad_norm=CLIP), trainer("16-mixed"))
    runs = trainer("16-mixed")
    ours = fit(Module(kind, max_grad_norm=CLIP, grad_scaling=True), runs)
    assert 0 < optimizer_of(runs).steps_skipped < len(ours.losses)
    torch.testing.assert_close(values(ours), values(by_lightning), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match=r"does not allow for gradient clipping.*unscaling"):
        fit(Module(kind, grad_scaling=True), trainer("16-mixed", CLIP))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_resume(kind: Kind, precision: str, tmp_path: Path) -> None:
    """A run that goes on from a checkpoint comes to the bits of one that was not interrupted."""
    options = {"grad_scaling": precision == "16-mixed"}
    first = trainer(precision)
    fit(Module(kind, **options), first)
    first.save_checkpoint(tmp_path / "first.ckpt")
    whole, resumed = trainer(precision, epochs=2), trainer(precision, epochs=2)
    want = fit(Module(kind, **options), whole)
    got = fit(Module(kind, **options), resumed, tmp_path / "first.ckpt")
    assert got.losses == want.losses[6:] and len(want.losses) == 12
    assert_same_bits(values(got), values(want))
    assert_same_bits(state(optimizer_of(resumed)), state(optimizer_of(whole)))
