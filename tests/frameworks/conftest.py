"""The frameworks as they are installed, without a network."""

import os
from collections.abc import Iterator

os.environ["HF_HUB_OFFLINE"] = "1"  # read when they are imported

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from adamp_fused.backends import native

# timm imports torchvision, whose wheel on PyPI is made for the CUDA build of torch there. Beside a
# build for CPUs its library of operators does not load, and the package does not import for want of
# two of their names, which are declared here. No test calls one.
try:
    import torchvision
except RuntimeError:
    for name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    import torchvision  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def native_kernels() -> None:
    """The tests step with the extension, not with the reference that serves where it is missing."""
    assert native.extension is not None, native.not_built()


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps the settings of its first Accelerator for the whole process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
