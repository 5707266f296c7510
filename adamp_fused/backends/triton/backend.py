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

from adamp_fused._methods import Method
from adamp_fused.backends import native
from adamp_fused.backends.protocol import Groups, Plan, Slot, State
from adamp_fused.backends.triton import options
from adamp_fused.backends.triton import tables as work

#: What the extension's ``Plan.inputs`` gives: for each slot its gradient's address and a row of the
#: others, the numbers and the address of a learning rate on the device.
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


class TritonBackend:
    """Serves CUDA and ROCm devices; see :class:`adamp_fused.backends.protocol.Backend`."""

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
        if native.extension is None:
            return native.not_built()
        if capturable:
            return (
                "the triton backend does not keep `step` on the device yet; use capturable=False, "
                "or backend='reference'"
            )
        return None

    def plan(self, method: type[Method], slots: list[Slot], groups: Groups, state: State) -> Plan:
        """A plan that keeps the addresses of everything but the gradients."""
        return TritonPlan(method, slots, groups, state)


@functools.cache
def load_kernels() -> tuple[ModuleType | None, str]:
    """The kernels, imported when first needed since that imports Triton; or why there are none."""
    try:
        from adamp_fused.backends.triton import kernels
    except ImportError as error:
        return None, str(error)
    return kernels, ""


class TritonPlan:
    """One launch for each dtype among the slots of a device.

    What changes between steps is noticed by the plan of the extension, which has no executor here.
    """

    def __init__(
        self, method: type[Method], slots: list[Slot], groups: Groups, state: State
    ) -> None:
        assert native.extension is not None
        self._tracker = native.extension.Plan(method.name, None, slots, groups, state)
        by_dtype: dict[torch.dtype, list[int]] = {}
        for index, slot in enumerate(slots):
            if slot.param.numel() > 0:
                by_dtype.setdefault(slot.param.dtype, []).append(index)
        self._launches = [_Launch(method, slots, indices) for indices in by_dtype.values()]
        self._inputs: Inputs = self._tracker.inputs()
        self._prepared: list[Tensor | None] = []

    def refresh(self, groups: Groups, state: State) -> bool:
        """Pick up gradients and options; False where anything else has changed."""
        if not self._tracker.refresh(groups, state):
            return False
        self._inputs, self._prepared = self._tracker.inputs(), []
        return all(launch.takes(self._inputs[0]) for launch in self._launches)

    @torch.no_grad()
    def prepare(self) -> None:
        """Whatever can fail comes before the first launch."""
        if self._tracker.follow_stream():
            for launch in self._launches:
                launch.follow_stream()
        self._prepared = [launch.prepare(self._inputs) for launch in self._launches]

    @torch.no_grad()
    def run(self) -> None:
        """Launch, then advance the step counts."""
        if not self._prepared:
            self.prepare()
        prepared, self._prepared = self._prepared, []
        for launch, table in zip(self._launches, prepared, strict=True):
            if table is not None:
                launch.run(table)
        self._tracker.run()


class _Launch:
    """The tensors of one dtype: their tables, and one kernel launch a step."""

    def __init__(self, method: type[Method], slots: list[Slot], indices: list[int]) -> None:
        own = [slots[index] for index in indices]
        self._device, dtype = own[0].param.device, own[0].param.dtype
        self._real = options.real(dtype)
        block_size, span = options.block_size(dtype), options.span(dtype)
        tables = work.build(own, method.moments, block_size, span)
        self._indices = torch.tensor(indices, device="cpu")
        self._aligned = self._indices[torch.tensor(tables.aligned, device="cpu")]
        self._weights = tables.weights.to(self._device)
        self._programs = tables.programs.to(self._device)
        self._words = torch.zeros(tables.words_size, dtype=torch.int32, device=self._device)
        self._compile_options = options.compile_options(
            method, dtype, tables.shapes, options.hardware(self._device)
        )
        self._scratch = torch.empty(tables.scratch_size, dtype=self._real, device=self._device)
        self._is_loaded = False
        if any(slot.grad is not None for slot in own):
            self._load()

    def takes(self, addresses: Tensor) -> bool:
        """Whether the gradients lie at 16-byte boundaries where the tables say so."""
        return not bool((addresses[self._aligned] % 16).any())

    def follow_stream(self) -> None:
        """Tell the allocator that the tables are used on the current stream, too."""
        stream = torch.cuda.current_stream(self._device)
        for table in (self._weights, self._programs, self._words, self._scratch):
            table.record_stream(stream)

    def prepare(self, inputs: Inputs) -> Tensor | None:
        """The table of a step; None: nothing to do. Changes nothing of the user's."""
        if not inputs[0][self._indices].any():
            return None
        self._load()
        table = self._step_table(*inputs)
        if self._device.type == "cuda":
            # The allocator keeps pinned memory until the copy has been made.
            table = table.pin_memory().to(self._device, non_blocking=True)
        return table

    def run(self, table: Tensor) -> None:
        """One step of every tensor that has a gradient, with what was prepared."""
        with self._on_device():
            self._kernel()[(len(self._programs),)](*self._arguments(table), **self._compile_options)

    def _load(self) -> None:
        """Compile the kernel as the launch will find it, and load it onto the device."""
        if self._is_loaded:
            return
        with self._on_device():
            like_table = torch.empty(1, dtype=torch.int64, device=self._device)
            compiled = self._kernel().warmup(
                *self._arguments(like_table), grid=(len(self._programs),), **self._compile_options
            )
            if compiled is not None:  # as there is nothing in the interpreter
                compiled.run  # noqa: B018 (loads it, and is what a launch calls)
        self._is_loaded = True

    def _kernel(self) -> Any:
        kernels, _ = load_kernels()
        assert kernels is not None
        return kernels.step_kernel

    def _arguments(self, table: Tensor) -> tuple[Tensor, ...]:
        return self._programs, self._weights, table, self._words, self._scratch

    def _on_device(self) -> contextlib.AbstractContextManager[Any]:
        on_gpu = self._device.type == "cuda"
        return torch.cuda.device(self._device) if on_gpu else contextlib.nullcontext()

    def _step_table(
        self, addresses: Tensor, rows: Tensor, numbers: Tensor, lr_addresses: Tensor
    ) -> Tensor:
        """Per tensor the fields of a step, then the numbers of each group and step count."""
        own = rows[self._indices]
        place = work.STEP_FIELDS * len(own) + numbers.shape[1] * own
        fields = torch.stack((addresses[self._indices], place, lr_addresses[own]), dim=1)
        return torch.cat((fields.flatten(), numbers.view(torch.int64).flatten()))
