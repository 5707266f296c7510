"""The compiled backends, ``cuda`` and ``cpu``: one extension module, one executor for each.

The plan object of the extension does the work; here is only who can be served.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch

from adamp_fused import _built_for
from adamp_fused._methods import Method
from adamp_fused.backends.protocol import Groups, Plan, Slot, State


class Loaded(NamedTuple):
    """The extension, or why there is none; what it was built for, if its file says so.

    ``exists``: there is a file, which does not serve.
    """

    extension: ModuleType | None
    missing: str
    built_for: _built_for.BuiltFor | None = None
    exists: bool = False


def load(name: str = "adamp_fused._C") -> Loaded:
    """Load the extension, unless what it was built for says that this may crash."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return Loaded(None, f"No module named {name!r}")
    built_for = _built_for.read(Path(spec.origin))
    if built_for is None:
        why_not: str | None = f"{spec.origin} does not say which torch it was built for"
    else:
        why_not = built_for.why_not(torch.__version__, torch.version.cuda)
    if why_not is None:
        try:
            return Loaded(importlib.import_module(name), "", built_for)
        except ImportError as error:
            why_not = str(error)
    return Loaded(None, why_not, built_for, exists=True)


_loaded = load()
extension, missing, built_for = _loaded.extension, _loaded.missing, _loaded.built_for


def not_built() -> str:
    """What to do where there is no extension, or none that can be loaded."""
    folder = Path(__file__).parents[2]
    in_clone = (folder / "setup.py").exists()
    if _loaded.exists and in_clone:
        mend = f"run `python setup.py build_ext --inplace` in {folder}"
    else:
        mend = "install with a C++ compiler: pip install --no-build-isolation ."
    if in_clone and not _loaded.exists:
        # Here Python imports the sources, whatever is installed.
        mend += f" and start Python elsewhere, since in {folder} it imports the sources"
    what = "cannot be loaded" if _loaded.exists else "are not built"
    return f"the native kernels {what} ({missing}); {mend}"


class NativeBackend:
    """One executor of a compiled extension; see :class:`adamp_fused.backends.protocol.Backend`."""

    needs_row_layout = True
    clips = True

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
        return None

    def plan(
        self,
        method: type[Method],
        slots: list[Slot],
        groups: Groups,
        state: State,
        clips: bool = False,
    ) -> Plan:
        """A plan that keeps the addresses of everything but the gradients."""
        assert self._extension is not None
        plan: Plan = self._extension.Plan(method.name, self._executor, slots, groups, state, clips)
        return plan
