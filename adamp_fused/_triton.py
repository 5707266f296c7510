from __future__ import annotations

import torch

from adamp_fused._backend import Groups, Plan, Slot, State


class TritonBackend:
    name = "triton"
    needs_row_layout = True

    def unavailable(self, device: torch.device, capturable: bool) -> str | None:
        return "not written yet"

    def plan(self, method: str, slots: list[Slot], groups: Groups, state: State) -> Plan:
        raise NotImplementedError
