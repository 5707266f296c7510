"""The Triton backend: the whole step in one launch per dtype, without a CUDA or ROCm toolchain.

A plan holds what does not change between steps as tables on the device. A step uploads one small
table, the gradients' addresses and the numbers of this step, and launches; nothing waits for the
device.
"""

from __future__ import annotations

import contextlib
import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from adamp_fused import _option_checks, _triton_options, _triton_tables
from adamp_fused._backend import Groups, Plan, Slot, State
from adamp_fused._layout import in_layout, row_strides

MOMENTS = {"adamp": ("exp_avg", "exp_avg_sq"), "sgdp": ("momentum",)}
#: Every option of a group; a plan depends on the first two.
OPTIONS = (
    *("projection", "capturable", "lr", "betas", "momentum", "dampening", "weight_decay", "eps"),
    *("delta", "wd_ratio", "nesterov", "project_buffer", "maximize"),
)


class TritonBackend:
    """Serves CUDA and ROCm devices; see :class:`adamp_fused._backend.Backend`."""

    name = "triton"
    needs_row_layout = True

    def unavailable(self, device: torch.device, capturable: bool) -> str | None:
        """Why not: the device, the package, or capturable."""
        if device.type not in ("cuda", "cpu"):
            return (
                f"the Triton kernels work on CUDA and ROCm devices, not on {device.type!r}; use "
                "backend='reference'"
            )
        kernels, missing = load_kernels()
        if kernels is None:
            return f"Triton is not installed ({missing}): pip install 'triton>=3.6,<3.10'"
        interpreted = not isinstance(kernels.step_kernel, kernels.triton.JITFunction)
        if device.type == "cpu" and not interpreted:
            return (
                "Triton runs CPU tensors in its interpreter only, for tests: set "
                "TRITON_INTERPRET=1 before Triton is imported, or use backend='cpu' or 'reference'"
            )
        if device.type == "cuda" and interpreted:
            return (
                "TRITON_INTERPRET=1 makes Triton run on the CPU, where it cannot follow the "
                "addresses of a device; unset it"
            )
        if device.type == "cuda" and torch.version.hip is None:
            capability = torch.cuda.get_device_capability(device)
            if capability < (8, 0):
                return f"Triton needs compute capability 8.0, not {capability}; use 'reference'"
        if capturable:
            return (
                "the triton backend does not keep `step` on the device yet; use capturable=False, "
                "or backend='reference'"
            )
        return None

    def plan(self, method: str, slots: list[Slot], groups: Groups, state: State) -> Plan:
        """A plan that keeps the addresses of everything but the gradients."""
        return TritonPlan(method, slots, groups)


@functools.cache
def load_kernels() -> tuple[ModuleType | None, str]:
    """The kernels, imported when first needed since that imports Triton; or why there are none."""
    try:
        from adamp_fused import _triton_kernels
    except ImportError as error:
        return None, str(error)
    return _triton_kernels, ""


class TritonPlan:
    """One launch for each dtype among the slots of a device."""

    def __init__(self, method: str, slots: list[Slot], groups: Groups) -> None:
        self._method = method
        by_dtype: dict[torch.dtype, list[Slot]] = {}
        for slot in slots:
            by_dtype.setdefault(slot.param.dtype, []).append(slot)
        self._launches = [_Launch(method, same_dtype) for same_dtype in by_dtype.values()]
        self._params = [list(group["params"]) for group in groups]
        device, planned = slots[0].param.device, {slot.param for slot in slots}
        # Parameters nobody has planned yet; those with a gradient are another plan's.
        self._waiting = [
            param
            for params in self._params
            for param in params
            if param.grad is None and param.device == device and param not in planned
        ]
        self._options = [_options(group) for group in groups]

    def refresh(self, groups: Groups, state: State) -> bool:
        """Pick up gradients and options; False where anything else has changed.

        Raises:
            ValueError, TypeError: an option has come to lie out of range.
        """
        if len(groups) != len(self._params):
            return False
        for i, (group, params) in enumerate(zip(groups, self._params, strict=True)):
            now = group["params"]
            if len(now) != len(params) or any(a is not b for a, b in zip(now, params, strict=True)):
                return False
            options = _options(group)
            if not all(map(_same, options, self._options[i])):
                _option_checks.check_group(groups, i, self._method)
                if options[:2] != self._options[i][:2]:
                    return False
                self._options[i] = options
        return all(param.grad is None for param in self._waiting) and all(
            launch.refresh(groups, state) for launch in self._launches
        )

    @torch.no_grad()
    def run(self) -> None:
        """Launch."""
        for launch in self._launches:
            launch.run()


def _options(group: dict[str, Any]) -> tuple[Any, ...]:
    """The options of a group, as far as its method has them."""
    return tuple(group.get(key) for key in OPTIONS)


def _same(a: Any, b: Any) -> bool:
    """Whether an option is what it was; tensors may be changed in place, so one never counts."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return False
    try:
        return bool(a == b)
    except (ValueError, RuntimeError):  # An array is neither equal nor not, and no option.
        return False


class _Launch:
    """The tensors of one dtype: their tables, and one kernel launch a step."""

    def __init__(self, method: str, slots: list[Slot]) -> None:
        self._adam, self._slots = method == "adamp", slots
        self._moments = MOMENTS[method]
        self._memory = [_Memory(slot, self._moments) for slot in slots]
        self._device, dtype = slots[0].param.device, slots[0].param.dtype
        self._real = _triton_options.real(dtype)
        self._filled = [i for i, slot in enumerate(slots) if slot.param.numel() > 0]
        filled = [slots[i] for i in self._filled]
        tile, span = _triton_options.tile(dtype), _triton_options.span(dtype)
        tables = _triton_tables.build(filled, self._moments, tile, span)
        for i, aligned in zip(self._filled, tables.aligned, strict=True):
            self._memory[i].aligned = aligned
        self._weights = tables.weights.to(self._device)
        self._programs = tables.programs.to(self._device)
        self._words = torch.zeros(tables.words_size, dtype=torch.int32, device=self._device)
        self._compile_options = _triton_options.compile_options(
            self._adam, dtype, tables.shapes, _triton_options.hardware(self._device)
        )
        self._scratch = torch.empty(tables.scratch_size, dtype=self._real, device=self._device)
        self._counts = self._next_counts()

    def refresh(self, groups: Groups, state: State) -> bool:
        """Pick up the gradients; False where a tensor is not what it was."""
        for slot, memory in zip(self._slots, self._memory, strict=True):
            if not memory.unchanged(slot, state.get(slot.param)):
                return False
            slot.grad, slot.group = slot.param.grad, groups[slot.group_index]
        self._counts = self._next_counts()
        # A count below 0, or none, was written into a state: the checks of a new plan say it.
        return all(count >= 1 for count in self._counts.values())

    def _next_counts(self) -> dict[int, float]:
        """The step counts after this step, by the slots that will be stepped."""
        stepped = [slot for slot in self._slots if slot.grad is not None]
        if not stepped or not self._adam:
            return {}
        counts = (torch.stack([slot.state["step"] for slot in stepped]) + 1).tolist()
        return {id(slot): count for slot, count in zip(stepped, counts, strict=True)}

    def run(self) -> None:
        """One step of every tensor that has a gradient."""
        stepped = [slot for slot in self._slots if slot.grad is not None]
        if not stepped:
            return
        if self._filled:
            self._launch()
        if self._adam:
            torch._foreach_add_([slot.state["step"] for slot in stepped], 1)
        # The kernel writes through addresses, which autograd cannot see.
        written = (*self._moments, "view")
        torch.autograd.graph.increment_version(
            [slot.param for slot in stepped]
            + [slot.state[key] for slot in stepped for key in written if key in slot.state]
        )
        for slot in stepped:
            slot.grad = None

    def _launch(self) -> None:
        kernels, _ = load_kernels()
        assert kernels is not None
        on_gpu = self._device.type == "cuda"
        table, _kept_alive = self._step_table()
        if on_gpu:
            # The allocator keeps pinned memory until the copy has been made.
            table = table.pin_memory().to(self._device, non_blocking=True)
        with torch.cuda.device(self._device) if on_gpu else contextlib.nullcontext():
            kernels.step_kernel[(len(self._programs),)](
                self._programs,
                self._weights,
                table,
                self._words,
                self._scratch,
                **self._compile_options,
            )

    def _step_table(self) -> tuple[Tensor, list[Tensor]]:
        """Per tensor the fields of a step, then the numbers of each group and step count."""
        fields: list[int] = []
        floats: list[float] = []
        numbers: dict[tuple[int, float], tuple[int, int]] = {}
        on_device: list[Tensor] = []
        for i in self._filled:
            slot = self._slots[i]
            if slot.grad is None:
                fields += (0, 0, 0)
                continue
            count = self._counts.get(id(slot), 0.0)
            key = (slot.group_index, count)
            if key not in numbers:
                lr, lr_address = slot.group["lr"], 0
                if isinstance(lr, Tensor) and lr.device.type != "cpu":
                    on_device.append(lr.to(self._device, self._real))
                    lr_address, lr = on_device[-1].data_ptr(), 1.0
                index = _triton_tables.STEP_FIELDS * len(self._filled) + len(floats)
                numbers[key] = (index, lr_address)
                floats += _triton_tables.numbers(slot.group, self._adam, float(lr), count)
            fields += (slot.grad.data_ptr(), *numbers[key])
        bits = torch.tensor(floats, dtype=torch.float64).view(torch.int64)
        return torch.cat((torch.tensor(fields), bits)), on_device


class _Memory:
    """Where the tensors of a slot lie: what a plan was built on."""

    def __init__(self, slot: Slot, moments: tuple[str, ...]) -> None:
        param = slot.param
        self.aligned = False
        self._shape, self._address = param.shape, param.data_ptr()
        self._own_strides, self._strides = param.stride(), row_strides(param)
        self._state = {
            key: (slot.state[key], slot.state[key].data_ptr())
            for key in (*moments, "step", "view")
            if key in slot.state
        }

    def unchanged(self, slot: Slot, state: dict[str, Tensor] | None) -> bool:
        """Whether parameter and state are where they were, and the gradient is laid out alike."""
        param = slot.param
        if not isinstance(state, dict) or param.data_ptr() != self._address:
            return False
        if param.shape != self._shape or param.stride() != self._own_strides:
            return False
        for key, (tensor, address) in self._state.items():
            if state.get(key) is not tensor or tensor.data_ptr() != address:
                return False
        grad = param.grad
        return grad is None or (
            grad.layout == torch.strided
            and grad.dtype == param.dtype
            and grad.device == param.device
            and grad.shape == self._shape
            and in_layout(grad, self._strides)
            and (grad.data_ptr() != 0 or grad.numel() == 0)
            and not (self.aligned and grad.data_ptr() % 16)
        )
