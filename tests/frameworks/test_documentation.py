"""The lines of docs/training.md that name frameworks."""

from pathlib import Path

import accelerate
import lightning
import torch
from peft import LoraConfig, get_peft_model
from timm.optim import create_optimizer_v2
from torch.distributed.optim import _apply_optimizer_in_backward, _get_in_backward_optimizers
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchtitan.components.optimizer import OptimizersContainer
from transformers import Trainer, TrainingArguments

import adamp_fused.timm
from adamp_fused import FusedAdamP
from frameworks.test_peft import base
from tools.test_readme import TRAINING, block_after


def test_examples(tmp_path: Path) -> None:
    """They run as they stand."""
    model = base()
    optimizer = FusedAdamP(model.parameters())
    given = {
        # Makes an Accelerator of before it useless.
        "args": TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[]),
        "accelerator": accelerate.Accelerator(cpu=True),
        "adamp_fused": adamp_fused,
        "lightning": lightning,
        "loader": torch.utils.data.DataLoader([torch.zeros(1)]),
        "model": model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.ConstantLR(optimizer),
        **{f.__name__: f for f in (_apply_optimizer_in_backward, create_optimizer_v2)},
        **{f.__name__: f for f in (get_ema_multi_avg_fn, get_peft_model)},
        **{cls.__name__: cls for cls in (AveragedModel, FusedAdamP, LoraConfig)},
        **{cls.__name__: cls for cls in (OptimizersContainer, Trainer)},
    }
    exec(block_after("Frameworks", TRAINING), given)
    assert given["Container"]._resolve_optimizer_factory("FusedAdamP") is FusedAdamP
    assert all(isinstance(o, FusedAdamP) for o in _get_in_backward_optimizers(given["model"]))
