"""What FusedAdamP and FusedSGDP share: options, state, checks, and the plans of a step.

The order of a step: pick up what changed; if anything but gradients and numbers did, check
everything and plan anew; only then change the first value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import Optimizer, ParamsT

from adamp_fused import _backend, _checks
from adamp_fused._backend import Plan, Slot
from adamp_fused._layout import Staging


class ProjectedOptimizer(Optimizer):
    """Base of both optimizers. A subclass names its method and the moments it keeps."""

    _method: str
    _moments: tuple[str, ...]
    _counts_steps: bool

    def __init__(self, params: ParamsT, defaults: dict[str, Any], backend: str | None) -> None:
        _backend.check_name(backend)
        _checks.check_options(defaults)
        self._backend_name = backend
        self._plans: list[Plan] = []
        self._unplanned: list[Tensor] = []
        super().__init__(params, defaults)

    @property
    def backend(self) -> str | None:
        """The backend that was asked for; None: the best one for each parameter's device."""
        return self._backend_name

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group; options it does not name take the optimizer's defaults.

        Raises:
            ValueError: an option is out of range, or a parameter is there already.
            TypeError: a parameter is no dense floating-point tensor.
            RuntimeError: the requested backend cannot serve a parameter's device.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            _checks.check_group(self.param_groups, len(self.param_groups) - 1)
            seen: dict[Tensor, str] = {}
            for i, param in enumerate(group["params"]):
                name = self._name(len(self.param_groups) - 1, i)
                _checks.check_once(param, name, seen)
                _checks.check_param(param, name)
                _backend.choose(self._backend_name, param.device, group["capturable"])
        except Exception:
            self.param_groups.pop()
            raise
        self._plans = []

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one step.

        Args:
            closure: re-evaluates the model and returns the loss; optional.

        Returns:
            What ``closure`` returned, or None.

        Raises:
            TypeError, ValueError, RuntimeError: a gradient, an option or a state tensor cannot be
                used; nothing has changed then, neither parameters nor state.
        """
        self._refuse_capture()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._perform()
        return loss

    # A compiled training step calls it as it is, as it does the fused steps of torch: traced, it
    # would be compiled anew for each parameter, and there is nothing to gain in one launch.
    @_disable_dynamo
    def _perform(self) -> None:
        """Step on the gradients that are there."""
        groups, state = self.param_groups, self.state
        fresh = [plan.refresh(groups, state) for plan in self._plans]
        late = any(param.grad is not None for param in self._unplanned)
        if late or not fresh or not all(fresh):
            self._plans = self._plan_anew()
        for plan in self._plans:
            plan.run()
        if self._plans and isinstance(self._plans[-1], Staging):
            self._plans = []  # its copies are as large as weights and moments, and used up

    def _refuse_capture(self) -> None:
        """Without ``capturable`` a graph would hold this step's count and numbers for ever."""
        started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        if started and torch.cuda.is_current_stream_capturing():
            for index, group in enumerate(self.param_groups):
                if not group["capturable"]:
                    raise RuntimeError(
                        f"step() is being captured into a CUDA graph and group {index} has "
                        "capturable=False: each replay would repeat this step's count and options; "
                        "use capturable=True with backend=None or 'reference'"
                    )

    def _plan_anew(self) -> list[Plan]:
        """Check every tensor and option, make missing state, and plan each device."""
        self._plans = []
        slots = self._checked_slots()
        chosen: dict[tuple[str, torch.device], list[Slot]] = {}
        for slot in slots:
            device = slot.param.device
            backend = _backend.choose(self._backend_name, device, slot.group["capturable"])
            chosen.setdefault((backend.name, device), []).append(slot)
        for slot in slots:
            self._complete_state(slot)

        # A plan notices late gradients on its own device, and no other.
        devices = {device for _, device in chosen}
        self._unplanned = [
            param
            for group in self.param_groups
            for param in group["params"]
            if param.device not in devices
        ]
        staging = Staging()
        plans: list[Plan] = []
        for (name, _), device_slots in chosen.items():
            backend = _backend.BACKENDS[name]
            if backend.needs_row_layout:
                device_slots = [staging.stage(slot, self._moments) for slot in device_slots]
            plans.append(backend.plan(self._method, device_slots, self.param_groups, self.state))
        return [*plans, staging] if staging else plans

    def _checked_slots(self) -> list[Slot]:
        """Every parameter that has a gradient or a state; raises before anything has changed."""
        slots = []
        seen: dict[Tensor, str] = {}
        for group_index, group in enumerate(self.param_groups):
            _checks.check_group(self.param_groups, group_index)
            for i, param in enumerate(group["params"]):
                name = self._name(group_index, i)
                _checks.check_once(param, name, seen)
                grad = param.grad
                # .get: looking up a defaultdict would make an entry.
                state = self.state.get(param) or {}
                if grad is None and not state:
                    continue
                _checks.check_param(param, name)
                if grad is not None:
                    _checks.check_grad(param, grad, name)
                    _checks.check_memory(param, name)
                    _checks.check_memory(grad, f"the gradient of {name}")
                for key in self._moments:
                    if key in state:
                        _checks.check_moment(param, state[key], key, name)
                        if grad is not None:
                            _checks.check_memory(state[key], f"the state {key!r} of {name}")
                if self._counts_steps and "step" in state:
                    _checks.check_count(state["step"], "step", name, not group["capturable"])
                if "view" in state:
                    _checks.check_count(state["view"], "view", name, may_read=False)
                slots.append(Slot(param, grad, state, group, group_index))
        return slots

    def _complete_state(self, slot: Slot) -> None:
        """Make what is missing in a parameter's state; give ``step`` and ``view`` their types."""
        param, group = slot.param, slot.group
        slot.state = state = self.state[param]
        if self._counts_steps:
            state["step"] = _step_tensor(state.get("step", 0), param, group["capturable"])
        for key in self._moments:
            if key not in state:
                state[key] = torch.zeros_like(param, memory_format=torch.preserve_format)
        if group["projection"] == "auto" and param.dim() > 1:
            state["view"] = _view_tensor(state.get("view", 0), param)

    def _name(self, group_index: int, index: int) -> str:
        names = self.param_groups[group_index].get("param_names")
        called = f" ({names[index]!r})" if names else ""
        return f"parameter {index} of group {group_index}{called}"

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and deepcopy keep: all but the plans, which the next step makes again."""
        return {**super().__getstate__(), "_backend_name": self._backend_name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, and fill in what a checkpoint of the official package does not know."""
        super().__setstate__(state)
        self._plans, self._unplanned = [], []
        for group in self.param_groups:
            for option, default in self.defaults.items():
                if option != "differentiable":
                    group.setdefault(option, default)
            for param in group["params"]:
                entry = self.state.get(param)
                if entry:
                    self._complete_types(entry, param, group)

    def _complete_types(self, entry: dict[str, Any], param: Tensor, group: dict[str, Any]) -> None:
        if self._counts_steps and "step" in entry:
            entry["step"] = _step_tensor(entry["step"], param, group["capturable"])
        if "view" in entry:
            entry["view"] = _view_tensor(entry["view"], param)


def _step_tensor(step: Any, param: Tensor, capturable: bool) -> Tensor:
    """The step count as a 0-dim tensor; an integer, as the official package keeps it, is accepted.

    float64 beside float64 parameters, so that bias corrections computed from it are as exact as
    they.
    """
    dtype = torch.float64 if param.dtype == torch.float64 else torch.float32
    device = param.device if capturable else torch.device("cpu")
    if isinstance(step, Tensor):
        return step.to(dtype=dtype, device=device)
    return torch.tensor(float(step), dtype=dtype, device=device)


def _view_tensor(view: Any, param: Tensor) -> Tensor:
    """The last outcome as 0-dim int32; ``load_state_dict`` casts it to the weight's dtype."""
    return torch.as_tensor(view, device=param.device).to(torch.int32)
