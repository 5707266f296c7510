"""The compiled backends, ``cuda`` and ``cpu``: one extension module, one executor for each.

The plan object of the extension does the work; here is only who can be served.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import torch

from adamp_fused._backend import Groups, Plan, Slot, State

extension: ModuleType | None
try:
    extension, missing = importlib.import_module("adamp_fused._C"), ""
except ImportError as error:
    extension, missing = None, str(error)


def _hidden() -> str:
    """What to do besides, where Python was started in a clone and imports the sources there."""
    folder = Path(__file__).parent.parent
    if not (folder / "setup.py").exists():
        return ""
    return f" and start Python elsewhere, since in {folder} it imports the sources"


def not_built() -> str:
    """What to do where there is no extension."""
    return (
        f"the native kernels are not built ({missing}); install with a C++ compiler: "
        f"pip install --no-build-isolation .{_hidden()}"
    )


class NativeBackend:
    """One executor of a compiled extension; see :class:`adamp_fused._backend.Backend`."""

    needs_row_layout = True

    def __init__(
        self,
        name: str,
        device_type: str,
        executor: str | None = None,
        extension: ModuleType | None = extension,
    ) -> None:
        self.name = name
        self._device_type = device_type
        self._executor = executor or name
        self._extension = extension

    def unavailable(self, device: torch.device, capturable: bool) -> str | None:
        """Why not: the device, the build, or capturable."""
        if device.type != self._device_type:
            return (
                f"the {self.name} kernels work on {self._device_type!r} tensors; move the "
                "parameters there or use another backend"
            )
        if self._extension is None:
            return not_built()
        if self._executor not in self._extension.executors:
            return (
                f"this build has no {self._executor} kernels; reinstall where torch is a CUDA "
                "build and CUDA_HOME names a CUDA toolkit: ADAMP_FUSED_BUILD=cuda pip install "
                "--no-build-isolation ."
            )
        if capturable:
            return (
                f"the {self.name} backend does not keep `step` on the device yet; use "
                "capturable=False, or backend='reference'"
            )
        return None

    def plan(self, method: str, slots: list[Slot], groups: Groups, state: State) -> Plan:
        """A plan that keeps the addresses of everything but the gradients."""
        assert self._extension is not None
        plan: Plan = self._extension.Plan(method, self._executor, slots, groups, state)
        return plan
