"""Which backend is tested on which device. A new way to run a backend is one more entry here."""

import os
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parity.cases import FEW, SMALL, Shape, shapes
from parity.gradients import SCRIPT
from parity.tolerances import TOLERANCES, Tolerance

GPU = torch.cuda.is_available()


def truncated_to_bfloat16(x: Tensor) -> Tensor:
    """The upper 16 bits of x in float32."""
    return (x.float().view(torch.int32) & -(2**16)).view(torch.float32).double()


@dataclass(frozen=True)
class Target:
    """A backend on a device.

    Attributes:
        label: how the test's name shows it.
        name: what the user passes as `backend`.
        device: where the parameters live.
        slow: True where a step costs milliseconds per tensor, as in Triton's interpreter; such a
            target gets fewer steps and smaller shapes, both decided here and nowhere else.
        lr_stays_on_device: True where a learning rate beside the parameters is read by the kernel
            alone, since asking for its value would wait for the device.
    """

    label: str
    name: str
    device: str
    slow: bool = False
    lr_stays_on_device: bool = False

    def unavailable(self, capturable: bool = False) -> str | None:
        """Say why the backend cannot run here, or None."""
        from adamp_fused.backends.registry import BACKENDS

        if self.device != "cpu" and not GPU:
            return f"{self.label}: torch finds no GPU"
        reason = BACKENDS[self.name].unavailable(torch.device(self.device), capturable)
        return reason and f"{self.label}: {reason}"

    def tolerance(self, dtype: torch.dtype) -> Tolerance:
        """Tolerance of a type, which an emulator may have to widen."""
        if self.name != "triton" or not self.slow or dtype != torch.bfloat16:
            return TOLERANCES[dtype]
        # Triton's interpreter (3.6 to 3.9) truncates to bfloat16, whatever rounding a kernel asks
        # for: a whole unit of the weights, and moments that are cut off.
        return replace(TOLERANCES[dtype], p_rel=2**-7, store=truncated_to_bfloat16)

    @property
    def script(self) -> tuple[int, ...]:
        """Outcomes of the steps to run: a slow target keeps each change of outcome."""
        return SCRIPT[:7] if self.slow else SCRIPT

    def pick(self, wanted: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Leave out what a slow target cannot run in a second, all but one of several tiles."""
        return tuple(s for s in wanted if not self.slow or s.numel <= 3_000 or s.name == "tile")

    @property
    def few(self) -> tuple[Shape, ...]:
        """One shape of each kind, smaller ones on a slow target."""
        return shapes(*(SMALL if self.slow else FEW))


# A backend that has to be registered first, as an emulated one, is added here by what registers it.
TARGETS = [
    Target("reference", "reference", "cpu"),
    Target("cpu", "cpu", "cpu"),
    *([Target("reference-gpu", "reference", "cuda")] if GPU else []),
    Target("triton", "triton", "cuda" if GPU else "cpu", slow=not GPU, lr_stays_on_device=True),
    Target("cuda", "cuda", "cuda"),
]

# Backends that have to be there, as "cpu,triton": where one is not, its tests fail, not skip.
REQUIRED = set(filter(None, os.environ.get("ADAMP_FUSED_TEST_REQUIRE", "").split(",")))
