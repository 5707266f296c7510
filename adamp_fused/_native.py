"""The compiled backends: ``cuda`` and ``cpu``, both behind the plan object of the extension."""

from __future__ import annotations

import torch

from adamp_fused._backend import Groups, Plan, Slot, State

try:
    from adamp_fused import _C
except ImportError as error:
    _C = None
    _import_error: str | None = str(error)
else:
    _import_error = None


class NativeBackend:
    """One compiled implementation; see :class:`adamp_fused._backend.Backend`."""

    needs_row_layout = True

    def __init__(self, name: str, extension: object | None = _C) -> None:
        self.name = name
        self._extension = extension

    def unavailable(self, device: torch.device, capturable: bool) -> str | None:
        return "not built"

    def plan(self, method: str, slots: list[Slot], groups: Groups, state: State) -> Plan:
        raise NotImplementedError
