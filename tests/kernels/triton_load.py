"""Plan and step with Triton's compiler and a device that only writes down; print it as JSON.

A program of its own: the tests have Triton's interpreter, under which nothing compiles or loads.

    python tests/kernels/triton_load.py          # two types
    python tests/kernels/triton_load.py fails    # the second of which does not load
    python tests/kernels/triton_load.py parts    # of tensors that have parts in other processes
"""

import json
import sys
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

from adamp_fused._methods import AdamP
from adamp_fused.backends.protocol import Field, Shard, Slot
from adamp_fused.backends.triton import backend, options

DTYPES = (torch.float32, torch.float64)
events: list[str] = []


class Device:
    """What Triton asks a driver for."""

    def __init__(self, fails_at: int) -> None:
        self._fails_at = fails_at
        self.get_current_target = lambda: GPUTarget("cuda", 90, 32)
        self.get_current_device = lambda: 0
        self.get_current_stream = lambda device: 0
        self.utils = SimpleNamespace(
            get_device_properties=lambda device: {"max_shared_mem": 1 << 17},
            load_binary=self.load,
            unload_module=lambda module: None,
        )

    def load(self, *arguments: Any) -> tuple[int, int, int, int, int]:
        """Module, function, registers, spills, most threads."""
        events.append("load")
        if events.count("load") == self._fails_at:
            raise RuntimeError("out of resource")
        return 1, 1, 32, 0, 1024

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        """What launches one kernel."""
        return lambda *arguments: events.append("launch")


def as_part(slot: Slot) -> Any:
    """Make a slot's tensor a part of one twice as large; what stands for the DTensor."""
    owner, grad = (torch.empty(0, dtype=slot.param.dtype) for _ in range(2))
    owner._local_tensor, grad._local_tensor = slot.param, slot.grad
    owner._spec = grad._spec = SimpleNamespace()
    owner.grad, slot.owner = grad, owner
    slot.shard = Shard(torch.zeros(len(Field), dtype=torch.float64), None, 8, 128)
    return owner


def main() -> None:
    """Two steps."""
    in_parts = "parts" in sys.argv[1:]
    triton.runtime.driver.set_active(Device(2 if "fails" in sys.argv[1:] else 0))
    options.hardware = lambda device: options.Hardware("cuda", 32)
    given = {"lr": 0.1, "weight_decay": 0.0, "eps": 1e-8, "delta": 0.1, "wd_ratio": 0.1}
    given |= {"betas": (0.9, 0.999), "nesterov": False, "maximize": False, "capturable": False}
    given |= {"state_dtype": None, "master_weights": False, "stochastic_rounding": False}
    projection = "layer" if in_parts else "off"
    group: dict[str, Any] = {"params": [], "projection": projection, **given}
    slots, state = [], {}
    for dtype in DTYPES:
        p = torch.ones((8, 8), dtype=dtype)
        p.grad = torch.ones_like(p)
        of_param = {
            "step": torch.zeros((), dtype=dtype),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
        }
        slots.append(Slot(p, p.grad, of_param, group, 0))
        listed = as_part(slots[-1]) if in_parts else p
        group["params"].append(listed)
        state[listed] = of_param
    try:
        plan = backend.TritonPlan(AdamP, slots, [group], state)
        events.append("planned")
        for _ in range(2):
            plan.run()
            if in_parts:
                events.append("added up")
                plan.finish()
            assert plan.refresh([group], state)
    except RuntimeError as error:
        events.append(str(error))
    steps = [slot.state["step"].item() for slot in slots]
    print(json.dumps({"events": events, "steps": steps}))


if __name__ == "__main__":
    main()
