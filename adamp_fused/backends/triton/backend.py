"""The Triton backend: the whole step in one launch per dtype, without a CUDA or ROCm toolchain.

Where tensors have parts in other processes a second launch ends the step.

A plan holds what does not change between steps as tables on the device. A step uploads one small
table, the gradients' addresses and the numbers of this step, and launches; nothing waits for the
device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from adamp_fused._methods import Method
from adamp_fused.backends import native
from adamp_fused.backends.protocol import Control, Groups, Plan, Slot, State
from adamp_fused.backends.triton import options
from adamp_fused.backends.triton import tables as work

#: What the extension's ``Plan.inputs`` gives: for each slot its gradient's address and a row of the
#: others, the numbers and the addresses of a learning rate and a weight decay on the device.
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


class TritonBackend:
    """Serves CUDA and ROCm devices; see :class:`adamp_fused.backends.protocol.Backend`."""

    name = "triton"
    needs_row_layout = True
    clips = True

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
        return TritonPlan(method, slots, groups, state, clips)


@functools.cache
def load_kernels() -> tuple[ModuleType | None, str]:
    """The kernels, imported when first needed since that imports Triton; or why there are none."""
    try:
        from adamp_fused.backends.triton import kernels
    except ImportError as error:
        return None, str(error)
    return kernels, ""


def _finish_kernel() -> Any:
    from adamp_fused.backends.triton import parts  # imports Triton

    return parts.finish_kernel


def _norm_kernel() -> Any:
    from adamp_fused.backends.triton import norms  # imports Triton

    return norms.norm_kernel


class TritonPlan:
    """One launch for each dtype among the slots of a device.

    What changes between steps is noticed by the plan of the extension, which has no executor here.
    """

    def __init__(
        self,
        method: type[Method],
        slots: list[Slot],
        groups: Groups,
        state: State,
        clips: bool = False,
    ) -> None:
        assert native.extension is not None
        self._tracker = native.extension.Plan(method.name, None, slots, groups, state)
        by_dtype: dict[torch.dtype, list[int]] = {}
        for index, slot in enumerate(slots):
            if not _is_left_out(slot):
                by_dtype.setdefault(slot.param.dtype, []).append(index)
        # Sum of squares, what the gradients are multiplied by, and the most that the norm may be.
        device = slots[0].param.device if slots else torch.device("cpu")
        self._norm = torch.ones(3, dtype=torch.float64, device=device) if clips else None
        self._max_norm = math.nan  # in `_norm`
        self._launches = [_Launch(method, slots, indices, clips) for indices in by_dtype.values()]
        # Those that no launch looks at are counted all the same.
        self._empty_counts = [
            (index, slot.state["step"])
            for index, slot in enumerate(slots)
            if _is_left_out(slot) and slot.counts_on_device and method.counts_steps
        ]
        self._found_inf: Tensor | None = None
        self._inputs: Inputs = self._tracker.inputs()
        self._is_prepared = False

    def refresh(self, groups: Groups, state: State) -> bool:
        """Pick up gradients and options; False where anything else has changed."""
        if not self._tracker.refresh(groups, state):
            return False
        self._inputs, self._is_prepared = self._tracker.inputs(), False
        return all(launch.takes(self._inputs[0]) for launch in self._launches)

    @torch.no_grad()
    def prepare(self, control: Control | None = None) -> None:
        """Whatever can fail comes before the first launch."""
        is_captured = control is not None and control.is_captured
        self._found_inf = None if control is None else control.found_inf
        if self._norm is not None:
            assert control is not None
            if control.max_norm != self._max_norm:
                self._max_norm = control.max_norm
                self._norm[2].fill_(control.max_norm)
            control = dataclasses.replace(control, clip=self._norm[1])
        if not is_captured and self._tracker.follow_stream():
            for launch in self._launches:
                launch.follow_stream()
        for launch in self._launches:
            launch.prepare(self._inputs, control)
            if control is not None:  # one of them counts a step that is skipped
                control = dataclasses.replace(control, steps_skipped=None)
        self._is_prepared = True

    @torch.no_grad()
    def run(self) -> None:
        """Launch, then advance the step counts, unless :meth:`finish` is to do it."""
        if not self._is_prepared:
            self.prepare()
        self._is_prepared = False
        if self._norm is not None:
            for number, launch in enumerate(self._launches):
                launch.find_norm(self._norm, is_first=number == 0)
        for launch in self._launches:
            launch.run()
        for index, count in self._empty_counts:
            if self._inputs[0][index]:
                count.add_(1 if self._found_inf is None else self._found_inf.reshape(()) == 0)
        self._tracker.run()

    @torch.no_grad()
    def finish(self) -> None:
        """The second launch, and the end of the step."""
        for launch in self._launches:
            launch.finish()
        self._tracker.finish()


def _is_left_out(slot: Slot) -> bool:
    """Whether there is nothing to do; an empty part says that it is there."""
    return slot.param.numel() == 0 and slot.shard is None


class _Launch:
    """The tensors of one dtype: their tables, and one kernel launch a step, or both."""

    def __init__(
        self, method: type[Method], slots: list[Slot], indices: list[int], clips: bool
    ) -> None:
        own = [slots[index] for index in indices]
        self._device, dtype = own[0].param.device, own[0].param.dtype
        self._real = options.real(dtype)
        block_size, span = options.block_size(dtype), options.span(dtype)
        tables = work.build(own, method.moments, block_size, span)
        counts = [
            slot.state["step"].data_ptr() if slot.counts_on_device and method.counts_steps else 0
            for slot in own
        ]
        self._counts = torch.tensor(counts, dtype=torch.int64, device="cpu")
        self._indices = torch.tensor(indices, device="cpu")
        self._aligned = self._indices[torch.tensor(tables.aligned, device="cpu")]
        self._weights = tables.weights.to(self._device)
        self._programs = tables.programs.to(self._device)
        self._parts = None if tables.parts is None else tables.parts.to(self._device)
        self._measured = None if tables.measured is None else tables.measured.to(self._device)
        self._finishers = tables.finishers.to(self._device)
        self._words = torch.zeros(tables.words_size, dtype=torch.int32, device=self._device)
        # With and without what the device has a say in; of the first launch and the second.
        self._compile_options = [
            options.compile_options(
                method, dtype, tables.shapes, options.hardware(self._device), controlled
            )
            for controlled in (False, True)
        ]
        self._finish_options = [options.finish_options(given) for given in self._compile_options]
        self._controlled = bool(self._counts.any())
        self._scratch = torch.empty(tables.scratch_size, dtype=self._real, device=self._device)
        self._clips = clips
        if clips:
            self._pieces = tables.pieces.to(self._device)
            self._partial = torch.empty(len(self._pieces), dtype=torch.float64, device=self._device)
            self._norm_options = options.norm_options(dtype, options.hardware(self._device))
        self._grad_norm: Tensor | None = None
        self._norm_loaded: torch.dtype | None = None
        self._table: Tensor | None = None  # of the step that was prepared
        self._of_graphs: list[Tensor] = []  # which copy it anew at each replay
        self._spare: tuple[Tensor, Tensor] | None = None
        self._loaded = [False, False]
        if any(slot.grad is not None for slot in own):
            self._load(self._controlled or clips)

    def takes(self, addresses: Tensor) -> bool:
        """Whether the gradients lie at 16-byte boundaries where the tables say so."""
        return not bool((addresses[self._aligned] % 16).any())

    def follow_stream(self) -> None:
        """Tell the allocator that the tables are used on the current stream, too."""
        stream = torch.cuda.current_stream(self._device)
        tables = [self._weights, self._programs, self._finishers, self._words, self._scratch]
        tables += [table for table in (self._parts, self._measured) if table is not None]
        tables += [self._pieces, self._partial] if self._clips else []
        for table in tables:
            table.record_stream(stream)

    def prepare(self, inputs: Inputs, control: Control | None) -> None:
        """Make the table of a step. Changes nothing of the user's."""
        self._table = None
        self._grad_norm = None if control is None else control.grad_norm
        is_skip_counted = control is not None and control.steps_skipped is not None
        # A norm of nothing is one, too.
        if not (inputs[0][self._indices].any() or is_skip_counted or self._clips):
            return
        self._controlled = control is not None or bool(self._counts.any())
        self._load(self._controlled)
        if self._clips and self._grad_norm is not None:
            self._load_norm(self._grad_norm)
        table = self._step_table(*inputs, control)
        if self._device.type != "cuda":
            self._table = table
        elif control is not None and control.is_captured:
            self._table = self._table_of_graph(table)
        else:
            # The allocator keeps pinned memory until the copy has been made.
            self._table = table.pin_memory().to(self._device, non_blocking=True)
            if self._spare is None and self._counts.any():
                self._spare = table.pin_memory(), torch.empty_like(self._table)

    def _table_of_graph(self, table: Tensor) -> Tensor:
        """A copy on the device, made anew at each replay from memory that stays as it is.

        That memory is set aside before the capture, in which none can be pinned.
        """
        spare, self._spare = self._spare, None
        if spare is None or spare[0].shape != table.shape:
            spare = table.pin_memory(), torch.empty_like(table, device=self._device)
        host, on_device = spare
        host.copy_(table)
        on_device.copy_(host, non_blocking=True)
        self._of_graphs += [host, on_device]
        return on_device

    def find_norm(self, result: Tensor, is_first: bool) -> None:
        """Add the squares of the gradients of this dtype; ``result`` as in ``norms``."""
        assert self._table is not None and self._grad_norm is not None
        with self._on_device():
            _norm_kernel()[(len(self._pieces),)](
                *self._norm_arguments(self._table, result, self._grad_norm),
                int(is_first),
                **self._norm_options,
            )

    def _norm_arguments(self, table: Tensor, result: Tensor, norm: Tensor) -> tuple[Tensor, ...]:
        return self._pieces, self._weights, table, self._words, self._partial, result, norm

    def run(self) -> None:
        """One step of every tensor that has a gradient, with what was prepared."""
        table = self._table
        if self._parts is None:
            self._table = None
        if table is not None:
            self._start(*self._first(self._controlled), table)

    def finish(self) -> None:
        """The rest of that step, where tensors have parts elsewhere."""
        table, self._table = self._table, None
        if table is not None:
            self._start(*self._second(self._controlled), table)

    def _start(self, kernel: Any, programs: Tensor, given: dict[str, Any], table: Tensor) -> None:
        with self._on_device():
            kernel[(len(programs),)](programs, *self._arguments(table), **given)

    def _load(self, controlled: bool) -> None:
        """Compile the kernels as the launches will find them, and load them onto the device."""
        if self._loaded[controlled]:
            return
        with self._on_device():
            like_table = torch.empty(1, dtype=torch.int64, device=self._device)
            launches = [self._first(controlled)]
            launches += [] if self._parts is None else [self._second(controlled)]
            for kernel, programs, given in launches:
                compiled = kernel.warmup(
                    programs, *self._arguments(like_table), grid=(len(programs),), **given
                )
                if compiled is not None:  # as there is nothing in the interpreter
                    compiled.run  # noqa: B018 (loads it, and is what a launch calls)
        self._loaded[controlled] = True

    def _load_norm(self, norm: Tensor) -> None:
        """The same for the kernel of the norm, which is left in a tensor of either type."""
        if self._norm_loaded == norm.dtype:
            return
        with self._on_device():
            like_table = torch.empty(1, dtype=torch.int64, device=self._device)
            result = torch.empty(3, dtype=torch.float64, device=self._device)
            compiled = _norm_kernel().warmup(
                *self._norm_arguments(like_table, result, norm),
                0,
                grid=(len(self._pieces),),
                **self._norm_options,
            )
            if compiled is not None:
                compiled.run  # noqa: B018
        self._norm_loaded = norm.dtype

    def _first(self, controlled: bool) -> tuple[Any, Tensor, dict[str, Any]]:
        """The kernel of the first launch, its programs, and what it is compiled with."""
        kernels, _ = load_kernels()
        assert kernels is not None
        return kernels.step_kernel, self._programs, self._compile_options[controlled]

    def _second(self, controlled: bool) -> tuple[Any, Tensor, dict[str, Any]]:
        """The same of the second."""
        return _finish_kernel(), self._finishers, self._finish_options[controlled]

    def _arguments(self, table: Tensor) -> tuple[Tensor | None, ...]:
        """Those behind the programs, which both take."""
        return self._weights, table, self._words, self._scratch, self._parts, self._measured

    def _on_device(self) -> contextlib.AbstractContextManager[Any]:
        on_gpu = self._device.type == "cuda"
        return torch.cuda.device(self._device) if on_gpu else contextlib.nullcontext()

    def _step_table(
        self,
        addresses: Tensor,
        rows: Tensor,
        numbers: Tensor,
        number_addresses: Tensor,
        control: Control | None,
    ) -> Tensor:
        """The head, per tensor the fields of a step, the numbers of each group and step count."""
        given: tuple[Tensor | None, ...] = (None,) * 4
        if control is not None:
            given = control.grad_scale, control.found_inf, control.steps_skipped, control.clip
        head = [0 if tensor is None else tensor.data_ptr() for tensor in given]
        own = rows[self._indices]
        place = work.HEAD_FIELDS + work.STEP_FIELDS * len(own) + numbers.shape[1] * own
        columns = (addresses[self._indices], place, *number_addresses[own].unbind(1), self._counts)
        fields = torch.stack(columns, dim=1)
        return torch.cat(
            (
                torch.tensor([*head, len(own)], dtype=torch.int64, device="cpu"),
                fields.flatten(),
                numbers.view(torch.int64).flatten(),
            )
        )
