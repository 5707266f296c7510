"""What FusedAdamP and FusedSGDP share: options, state, checks, and the plans of a step.

The order of a step: pick up what changed; if anything but gradients and numbers did, check
everything and plan anew; only then change the first value.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import Optimizer, ParamsT

from adamp_fused import (
    _checkpoints,
    _checks,
    _control,
    _fake,
    _flattened,
    _graphs,
    _groups,
    _observed,
    _operator,
    _options,
    _state,
    _stats,
)
from adamp_fused._layout import Staging
from adamp_fused._memory import Written, check_apart
from adamp_fused._methods import Method
from adamp_fused._numbers import check_at_least_zero
from adamp_fused.backends import registry
from adamp_fused.backends.protocol import Control, Plan, Slot
from adamp_fused.sharding import dtensor
from adamp_fused.sharding.reductions import Reductions
from adamp_fused.stats import tensorboard


class ProjectedOptimizer(Optimizer):
    """Base of both optimizers. A subclass names its method."""

    _method: type[Method]
    _planned_in_inference = False
    _grad_scaling = False
    _measures = False
    _clipping: _control.Clipping | None = None
    _steps_skipped: Tensor | None = None
    profile_hook_step = staticmethod(_observed.hook_step)  # what torch wraps ``step`` in

    def __init__(
        self,
        params: ParamsT,
        defaults: dict[str, Any],
        backend: str | None,
        grad_scaling: bool,
        max_grad_norm: float | None,
        stats: bool,
    ) -> None:
        registry.check_name(backend)
        _options.check_flag("grad_scaling", grad_scaling)
        _options.check_flag("stats", stats)
        if max_grad_norm is not None:
            check_at_least_zero("max_grad_norm", max_grad_norm)
            self._clipping = _control.Clipping(float(max_grad_norm))
        if grad_scaling:
            # Tells GradScaler to leave to the step what it otherwise waits for.
            self._grad_scaling = self._step_supports_amp_scaling = True
        if stats:
            self._measures = True
        _options.check_options(defaults, self._method)
        _options.check_implementation(defaults, backend)
        _groups.make_plain(defaults, defaults)
        self._backend_name = backend
        self._prepare_stepping()
        self._given = _flattened.GivenShapes()
        super().__init__(_groups.as_dicts(params), defaults)

    def _prepare_stepping(self) -> None:
        """Set up what serves steps alone; neither pickled nor copied."""
        self._plans: list[Plan] = []
        self._staging: Staging | None = None  # copies back what they have done to copies
        self._sharded: list[Plan] = []  # those of them that need sums of other processes
        self._reductions: Reductions | None = None  # where a tensor has parts elsewhere
        self._served: list[tuple[str, torch.device]] = []  # backend and device of each
        self._captured: list[Plan] = []  # whose addresses a graph has
        self._unplanned: list[tuple[int, int]] = []  # group, and position in it
        self._lock = threading.RLock()
        self._is_stepping = False

    @property
    def backend(self) -> str | None:
        """The backend that was asked for; None: the best one for each parameter's device."""
        return self._backend_name

    @property
    def steps_skipped(self) -> Tensor | None:
        """How many steps ``found_inf`` has skipped: a 0-dim int64 on the device, never waited for.

        None before the first step, and without ``grad_scaling``.
        """
        return self._steps_skipped

    @property
    def grad_norm(self) -> Tensor | None:
        """The norm of all gradients in the last step, before they were clipped.

        A 0-dim float32 (float64 where a parameter is) on the device of the first parameter, which
        each step writes anew, but for one that is skipped. None before the first step, and without
        ``max_grad_norm``.
        """
        return None if self._clipping is None else self._clipping.norm

    def release(self) -> None:
        """Free what is kept for CUDA graphs that have captured a step: they must not run again."""
        with self._lock:
            self._captured = []
            self._plans = []

    @torch.no_grad()
    @_fake.in_their_mode
    def init_state(self) -> None:
        """Make the state that first steps would make, of all parameters that require a gradient.

        Moments and counts are 0; what is there already stays as it is. No weight changes, and the
        steps that follow are those of an optimizer without state, to the bit. A checkpoint is
        complete then: that of ``torch.distributed.checkpoint`` has every parameter, used or not,
        and is loaded without the step by which torch makes state where there is none.

        Raises:
            TypeError, ValueError, RuntimeError: an option or a tensor cannot be used; nothing has
                changed then.
        """
        with self._lock:
            slots = []
            for index, group in enumerate(self.param_groups):
                self._check_group(index)
                for i, param in enumerate(group["params"]):
                    if param.requires_grad and not is_lazy(param):
                        state = self.state.get(param, {})  # without an entry where there is none
                        slots.append(self._slot(param, None, state, group, index))
                        self._check_slot(slots[-1], self._name(index, i))
            _state.complete(self._method, slots, self.state)
            self._plans = []

    def stats(self) -> dict[str, dict[str, Any]]:
        """What the last step of each parameter did, by name; needs ``stats=True``.

        A parameter is called by its name where ``named_parameters()`` were given, else
        ``"group 0, parameter 3"``. One that has made no step is left out. In the formulas ``p`` is
        the weight before the step, ``g`` the gradient, unscaled and clipped, ``u`` the raw update
        without a correction of the bias, ``b = 1 / bias_correction1`` (SGDP: 1), ``q`` the update
        after the projection: ``u`` less its radial part ``r``, row by row where the outcome is
        channel-wise. All norms are Euclidean, over the whole parameter.

        * ``outcome``: of the projection, ``"none"``, ``"channel"`` or ``"layer"``;
        * ``outcomes``: how many steps came to each of them so far;
        * ``max_cosine``: the largest ``|cos(p, g)|`` of a row, each norm clamped at ``eps``. A row
          is what a channel-wise test looks at; with ``projection="layer"`` or ``"off"``, and where
          there are fewer than two dimensions, the whole parameter is one row;
        * ``bound``: ``delta / sqrt(row length)``, which the largest cosine must be below for a
          channel-wise projection;
        * ``weight_norm``: ``|p|``; ``grad_norm``: ``|g|``;
        * ``update_norm``: ``b * |q|``, so that ``lr * update_norm`` is how far the step moves the
          weight, but for its decay;
        * ``removed``: ``|r| / |u|``, the share of the update that the projection took, 0 to 1;
        * ``effective_lr``: ``lr * b * |q| / |p|``, the step relative to the weight;
        * ``angle``: between the weight before and after the step, in radians;
        * ``growth``: ``|p|`` over ``|p|`` before the first step that was measured.

        A ratio to a weight of zeros is infinite, or NaN. Sums are float32 (float64 where parameters
        are), and float64 over tensors. Steps that ``found_inf`` skipped do not count. Sharded
        parameters have the numbers of the whole, the same in all processes.

        Reading waits for the device, once; the steps themselves never wait.

        Raises:
            RuntimeError: the optimizer was made without ``stats=True``.
        """
        if not self._measures:
            raise RuntimeError(
                "stats() needs what steps collect with stats=True, and the optimizer was made "
                "with stats=False: make it with stats=True"
            )
        recorded = []
        for name, (param, _) in _stats.named_parameters(self.param_groups).items():
            found = self.state.get(param, {}).get("stats")
            if found is not None:
                recorded.append((name, dtensor.local(found)))
        return _stats.read(recorded)

    def add_to(self, writer: tensorboard.ScalarWriter, step: int) -> None:
        """Write :meth:`stats` to TensorBoard, or to whatever has ``add_scalar(tag, value, step)``.

        Tags are ``adamp/<quantity>/<parameter>``; see :func:`adamp_fused.stats.tensorboard.add_to`.

        Raises:
            RuntimeError: the optimizer was made without ``stats=True``.
            TypeError: ``writer`` has no ``add_scalar``.
        """
        tensorboard.add_to(self.stats(), writer, step)

    def _counts_on_device(self, group: dict[str, Any]) -> bool:
        """Whether ``step`` lives beside the parameters: where the host may not know the count."""
        return bool(group["capturable"]) or self._grad_scaling

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group; options it does not name take the optimizer's defaults.

        Raises:
            ValueError: an option is out of range, or a parameter is there already.
            TypeError: a parameter is no dense floating-point tensor.
            RuntimeError: the requested backend cannot serve a parameter's device.
        """
        super().add_param_group(_groups.as_dict(param_group))
        group, index = self.param_groups[-1], len(self.param_groups) - 1
        params = group["params"]
        try:
            _options.check_group(self.param_groups, index, self._method, self._backend_name)
            seen: dict[Tensor, str] = {}
            for i, param in enumerate(params):
                name = self._name(index, i)
                _checks.check_once(param, name, seen)
                if param.requires_grad:  # frozen, it may be anything until it has a gradient
                    if not is_lazy(param):  # which the first step after it is made looks at
                        _checks.check_param(param, name)
                    registry.choose_for(self._backend_name, param, self._counts_on_device(group))
            _flattened.check_pieces(params, functools.partial(self._name, index))
        except Exception:
            self.param_groups.pop()
            raise
        _groups.make_plain(group, self.defaults)
        self._given.add(index, params)
        self._plans = []

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one step. Steps of several threads follow one another.

        Args:
            closure: re-evaluates the model and returns the loss; optional.

        Returns:
            What ``closure`` returned, or None.

        Raises:
            TypeError, ValueError, RuntimeError: a gradient, an option or a state tensor cannot be
                used; nothing has changed then, neither parameters nor state.
        """
        given = _control.given_to(self, self._grad_scaling)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not torch.compiler.is_compiling():
            self._perform(given)
        elif self._has_operator():
            self._perform_compiled(given)
        else:
            self._perform_untraced(given)
        return loss

    def _has_operator(self) -> bool:
        """Whether the operator of compiled functions serves all parameters, in one call."""
        params = self._params()
        if any(dtensor.is_dtensor(param) for param in params):
            return False
        devices = {param.device for param in params}
        return len(devices) == 1 and registry.has_operator(self._backend_name, next(iter(devices)))

    def _perform_compiled(self, given: _control.Given | None) -> None:
        """A step as one call of an operator, which a compiler traces."""
        of_groups = []
        for group in self.param_groups:
            # The compiler takes empty lists alone.
            lists: tuple[list[Tensor], ...] = ([], [], [], [], [], [], [])
            params, grads, moments1, moments2, steps, views, stats = lists
            self._init_group(group, params, grads, moments1, moments2, steps, views, stats)
            of_groups.append(
                _operator.Tensors(params, grads, moments1, moments2, steps, views, stats)
            )
        scale, found = (None, None) if given is None else given
        skipped = None if found is None else self._steps_skipped
        limit, norm = math.inf, None
        if self._clipping is not None:
            limit, norm = self._clipping.max_norm, self._clipping.norm
        with torch.no_grad():
            _operator.step(
                self._method, of_groups, self.param_groups, (scale, found, skipped), limit, norm
            )

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> None:
        """List the tensors of a group for :meth:`_perform_compiled`.

        torch's compiler knows it by this name: it calls it itself, outside of what it traces, so
        that checks are made and missing state is, and guards what it finds in the lists.
        """
        self._check_and_complete()
        _operator.add_group(self._method, group, self.state, self._measures, *lists)

    @torch.no_grad()
    def _check_and_complete(self) -> None:
        """All that comes before a plan: checks, and the state."""
        slots = self._checked_slots()
        _state.complete(self._method, slots, self.state)
        self._served = [(slot.param.device.type, slot.param.device) for slot in slots[:1]]
        self._plans = []
        self._prepare_control(slots)

    # Where there is no operator a compiled function calls the step as it is.
    @_disable_dynamo
    def _perform_untraced(self, given: _control.Given | None) -> None:
        self._perform(given)

    def _perform(self, given: _control.Given | None) -> None:
        is_captured = _graphs.is_capturing()
        if is_captured:
            _graphs.check_groups(self.param_groups, self._name)
        with self._lock:
            if self._is_stepping:
                raise RuntimeError(
                    "step() was called within a step of the same optimizer, by something that this "
                    "step calls; call it once the running step has returned"
                )
            self._is_stepping = True
            try:
                self._run_plans(given, is_captured)
            except BaseException:
                self._plans = []  # they keep memory alive for the step that did not end
                raise
            finally:
                self._is_stepping = False

    def _run_plans(self, given: _control.Given | None, is_captured: bool) -> None:
        """Step on the gradients that are there.

        Whatever calls torch's operations does so without autograd; the plan that a step finds and
        runs calls none.
        """
        if self._planned_in_inference and not torch.is_inference_mode_enabled():
            self._plans = []  # what it made then cannot be changed now
        if not self._plans_are_fresh():
            if is_captured:
                self._check_capture_without_plan()
            self._given.check_left_behind(self.param_groups)
            with torch.no_grad():
                settled = dtensor.settle_gradients(self._params())
            if not settled or not self._plans_are_fresh():
                self._plan_anew()
        if self._reductions is not None:
            self._reductions.begin()
        controls: list[Control] = []  # alive until all are launched
        if given is not None or is_captured or self._clipping is not None:
            controls = self._controls(given, is_captured)
            for plan, control in zip_longest(self._plans, controls):
                plan.prepare(control)
        elif len(self._plans) > 1:
            for plan in self._plans:
                plan.prepare()
        for plan in self._plans:
            plan.run()
        if self._reductions is not None:
            self._reductions.reduce(self.param_groups)
            for plan in self._sharded:
                plan.finish()
        if is_captured:
            self._captured += self._plans
        if self._staging is not None:
            self._staging.copy_back()
            # Its copies are as large as weights and moments, and used up.
            self._plans, self._staging = [], None

    def _plans_are_fresh(self) -> bool:
        """Whether all that has changed since the last step are gradients and numbers."""
        groups, state = self.param_groups, self.state
        fresh = [plan.refresh(groups, state) for plan in self._plans]
        return bool(fresh) and all(fresh) and not self._has_late_gradient()

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    def _has_late_gradient(self) -> bool:
        """Whether a parameter that no plan looks at has a gradient now."""
        groups = self.param_groups
        return any(groups[g]["params"][i].grad is not None for g, i in self._unplanned)

    @torch.no_grad()
    def _controls(self, given: _control.Given | None, is_captured: bool) -> list[Control]:
        """What the device has a say in, for each plan."""
        devices = [device for _, device in self._served]
        if is_captured:
            _graphs.check_devices(devices)
        clipping, clip, squares = self._clipping, None, None
        finds_norm = clipping is not None and not clipping.in_plan
        grads = self._gradients() if finds_norm else []
        # A process without a gradient has no norm to write, and tells the others all the same.
        norm = None if clipping is None else clipping.norm
        if self._reductions is not None:
            given, squares = self._reductions.agree(given, grads if finds_norm else None)
        elif finds_norm and norm is not None:
            squares = _control.sum_of_squares([grad for _, grad in grads], norm.device)
        if clipping is not None and norm is not None and squares is not None:
            clip = clipping.find(squares, given)
        return _control.controls(devices, given, self._steps_skipped, clipping, clip, is_captured)

    def _gradients(self) -> list[tuple[Tensor, Tensor]]:
        """Parameters that have a gradient, and what of it is here."""
        params = (param for param in self._params() if param.grad is not None)
        return [(param, dtensor.local(param.grad)) for param in params]

    def _check_capture_without_plan(self) -> None:
        """Raise unless every backend makes its steps without a plan, and the state is complete."""
        needs_none = all(name == "reference" for name, _ in self._served)
        complete = all(
            param.grad is None or self.state.get(param)
            for group in self.param_groups
            for param in group["params"]
        )
        if not (self._served and needs_none and complete):
            _graphs.refuse_planning()

    def _check_group(self, index: int) -> None:
        """Check what a step needs of a group as a whole."""
        _options.check_group(self.param_groups, index, self._method, self._backend_name)
        self._method.check_step(self.param_groups[index], index)
        params = self.param_groups[index]["params"]
        self._given.check(index, params, functools.partial(self._name, index))

    @torch.no_grad()
    @_fake.in_their_mode
    def _plan_anew(self) -> None:
        """Check every tensor and option, make missing state, and plan each device."""
        self._plans, self._sharded, self._staging = [], [], None
        self._planned_in_inference = torch.is_inference_mode_enabled()
        slots = self._checked_slots()
        chosen: dict[tuple[str, torch.device], list[Slot]] = {}
        for slot in slots:
            device = slot.param.device
            backend = registry.choose_for(self._backend_name, slot.param, slot.counts_on_device)
            chosen.setdefault((backend.name, device), []).append(slot)
        _state.complete(self._method, slots, self.state)
        self._served = list(chosen)
        self._reductions = Reductions.of(self.param_groups, self._name, self._measures)
        self._prepare_control(slots)

        # A plan notices late gradients on its own device, and no other.
        devices = {device for _, device in chosen}
        self._unplanned = [
            (group_index, i)
            for group_index, group in enumerate(self.param_groups)
            for i, param in enumerate(group["params"])
            if param.device not in devices
        ]
        staging = Staging()
        for (name, _), device_slots in chosen.items():
            backend = registry.BACKENDS[name]
            device_slots = [dtensor.local_slot(slot) for slot in device_slots]
            if self._reductions is not None:
                self._reductions.give_shards(device_slots)
            if backend.needs_row_layout:
                device_slots = [staging.stage(slot, self._method.moments) for slot in device_slots]
            clips = self._clipping is not None and self._clipping.in_plan
            plan = backend.plan(self._method, device_slots, self.param_groups, self.state, clips)
            self._plans.append(plan)
            if any(slot.shard is not None for slot in device_slots):
                self._sharded.append(plan)
        if staging:
            self._staging = staging

    def _prepare_control(self, slots: list[Slot]) -> None:
        """Make the tensors in which the device leaves what it has decided."""
        if not slots:
            return
        device = self._served[0][1]
        if self._grad_scaling and self._steps_skipped is None:
            self._steps_skipped = torch.zeros((), dtype=torch.int64, device=device)
        if self._clipping is not None:
            is_double = any(slot.param.dtype == torch.float64 for slot in slots)
            self._clipping.prepare(device, is_double)
            names = [name for name, _ in self._served]
            one_backend = len(names) == 1 and registry.BACKENDS[names[0]].clips
            self._clipping.in_plan = one_backend and self._reductions is None

    def _checked_slots(self) -> list[Slot]:
        """Every parameter that has a gradient or a state; raises before anything has changed."""
        slots = []
        written: list[Written] = []
        seen: dict[Tensor, str] = {}
        for group_index, group in enumerate(self.param_groups):
            self._check_group(group_index)
            for i, param in enumerate(group["params"]):
                name = self._name(group_index, i)
                _checks.check_once(param, name, seen)
                # .get: looking up a defaultdict would make an entry.
                state = self.state.get(param, {})
                slot = self._slot(param, param.grad, state, group, group_index)
                if slot.grad is None and not slot.state:
                    continue
                try:
                    self._check_slot(slot, name)
                except (TypeError, ValueError, RuntimeError):
                    if slot.grad is not None:
                        raise
                    continue  # frozen: it may be anything until it has a gradient
                slots.append(slot)
                if _fake.is_fake(slot.param):
                    continue
                written.append((dtensor.local(slot.param), name, None))
                for key in (*self._method.moments, *self._method.counts(), "stats"):
                    if isinstance(value := slot.state.get(key), Tensor):
                        written.append((dtensor.local(value), name, key))
        check_apart(written)
        return slots

    def _slot(
        self, param: Tensor, grad: Tensor | None, state: Any, group: dict[str, Any], index: int
    ) -> Slot:
        on_device = self._counts_on_device(group)
        return Slot(param, grad, state, group, index, on_device, measured=self._measures)

    def _check_slot(self, slot: Slot, name: str) -> None:
        if dtensor.is_dtensor(slot.param) or dtensor.is_dtensor(slot.grad):
            dtensor.check_slot(slot, self._method.moments, name)
            slot = dtensor.local_slot(slot)
        param, grad = slot.param, slot.grad
        _checks.check_param(param, name)
        _checks.check_writable(param, name)
        if grad is not None:
            _checks.check_grad(param, grad, name)
            _checks.check_memory(grad, f"the gradient of {name}")
        _checks.check_memory(param, name)
        read = not (slot.counts_on_device or _fake.is_fake(param))
        _checks.check_state(
            param, slot.state, self._method.moments, self._method.counts(), read, name
        )
        if slot.measured:
            _checks.check_stats(param, slot.state, name)

    def _name(self, group_index: int, index: int) -> str:
        names = self.param_groups[group_index].get("param_names")
        called = f" ({names[index]!r})" if names else ""
        return f"parameter {index} of group {group_index}{called}"

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and deepcopy keep: all but the plans, which the next step makes again."""
        own = (
            "_backend_name",
            "_grad_scaling",
            "_step_supports_amp_scaling",
            "_clipping",
            "_measures",
        )
        kept = {name: self.__dict__[name] for name in own if name in self.__dict__}
        return {**super().__getstate__(), **kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load as torch does, but for statistics, which keep their type: float64."""
        super().load_state_dict(state_dict)
        _checkpoints.restore_stats(self.param_groups, self.state, state_dict)
        self._plans = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, and fill in what a checkpoint of the official package does not know."""
        before = self.__dict__.get("param_groups")  # None: unpickled or copied, not loaded
        super().__setstate__(state)
        if before is None:
            self._prepare_stepping()
            self._given = _flattened.GivenShapes()
            for index, group in enumerate(self.param_groups):
                self._given.add(index, group["params"])
        else:
            self._plans = []
            _checkpoints.keep_implementation(self.param_groups, before)
            _checkpoints.adapt(self.param_groups, self.state, self._method, type(self).__name__)
        for group in self.param_groups:
            for option, default in self.defaults.items():
                group.setdefault(option, default)
            for param in group["params"]:
                entry = self.state.get(param, {})
                try:
                    _checks.check_state(param, entry, (), self._method.counts(), False, "")
                except (TypeError, ValueError, RuntimeError):
                    continue  # the next step says what is wrong, if there is a gradient
                on_device = self._counts_on_device(group)
                _state.give_types(self._method, entry, param, on_device)
