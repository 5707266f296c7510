"""The methods, each a type: its moments, its own options, and its raw update in plain torch.

Whatever else has to know of a method takes it from here; ``csrc/core/methods.h`` says the same for
C++. ``docs/extending.md`` says what a new one needs.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from adamp_fused import _numbers
from adamp_fused.backends import formulas as F


class Method:
    """What distinguishes one method from the others; a type, of which there are no instances."""

    #: As the extension knows it.
    name: ClassVar[str]
    #: Keys of the state for tensors of the weight's shape.
    moments: ClassVar[tuple[str, ...]]
    #: Whether the state has a ``step``, which corrections of the bias need.
    counts_steps: ClassVar[bool]
    #: Options that are numbers beside those that all methods have, and those that are flags.
    numbers: ClassVar[tuple[str, ...]] = ()
    flags: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def counts(cls) -> tuple[str, ...]:
        """Keys of the state that are no moments."""
        return ("step", "view") if cls.counts_steps else ("view",)

    @staticmethod
    def check_options(options: dict[str, Any]) -> None:
        """Raise ValueError or TypeError unless the method's own options are usable."""
        raise NotImplementedError

    @staticmethod
    def check_step(group: dict[str, Any], index: int) -> None:
        """Raise ValueError where a step could not use options that may be set for a moment."""

    @staticmethod
    def own_numbers(group: dict[str, Any]) -> list[float]:
        """Two options of the method's own, as the extension takes them."""
        raise NotImplementedError

    @staticmethod
    def accumulate(
        g: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> tuple[Tensor, Any, Any]:
        """Update the moments; return the raw update ``u``, the step size and the weight decay."""
        raise NotImplementedError

    @staticmethod
    def inv_bias_correction1(state: dict[str, Tensor], group: dict[str, Any]) -> Any:
        """What ``u`` is multiplied by beside the learning rate; after :meth:`accumulate`."""
        return 1.0


class AdamP(Method):
    """Algorithm 2 of the paper."""

    name = "adamp"
    moments = ("exp_avg", "exp_avg_sq")
    counts_steps = True

    @staticmethod
    def check_options(options: dict[str, Any]) -> None:
        """``betas``, two decay rates."""
        for i, beta in enumerate(_numbers.pair("betas", options["betas"])):
            _numbers.check_fraction(f"betas[{i}]", beta, "0.9 or 0.999 are common")

    @staticmethod
    def own_numbers(group: dict[str, Any]) -> list[float]:
        """``betas``."""
        return [float(beta) for beta in group["betas"]]

    @staticmethod
    def accumulate(
        g: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> tuple[Tensor, Any, Any]:
        """Update ``exp_avg`` and ``exp_avg_sq``; the decay is ``lr * weight_decay``."""
        beta1, beta2 = (float(beta) for beta in group["betas"])
        step = state["step"].add_(1)
        # On the device where the count lives there, else as a Python float: neither waits.
        count = step.double() if group["capturable"] else step.item()
        bias_correction1 = 1 - beta1**count
        bias_correction2 = 1 - beta2**count
        m = _update(state["exp_avg"], g, beta1, 1 - beta1)
        v = _update(state["exp_avg_sq"], g * g, beta2, 1 - beta2)
        numerator = F.moving_average(m, g, beta1, 1 - beta1) if group["nesterov"] else m
        u = F.adam_perturb(numerator, v.sqrt(), bias_correction2**-0.5, group["eps"])
        lr = group["lr"]
        return u, _like(lr / bias_correction1, g), _like(lr * group["weight_decay"], g)

    @staticmethod
    def inv_bias_correction1(state: dict[str, Tensor], group: dict[str, Any]) -> Any:
        """``1 / (1 - beta1^step)``."""
        step = state["step"]
        count = step.double() if group["capturable"] else step.item()
        return 1 / (1 - float(group["betas"][0]) ** count)


class SGDP(Method):
    """Algorithm 1 of the paper."""

    name = "sgdp"
    moments = ("momentum",)
    counts_steps = False
    numbers = ("momentum", "dampening")
    flags = ("project_buffer",)

    @staticmethod
    def check_options(options: dict[str, Any]) -> None:
        """``momentum`` and ``dampening``."""
        # 1 and more serve for a moment, as torch's schedulers cycle it; see check_step.
        _numbers.check_at_least_zero("momentum", options["momentum"])
        for name, common in (("momentum", "0.9"), ("dampening", "0")):
            _numbers.check_finite(name, options[name], f"{common} is common")

    @staticmethod
    def own_numbers(group: dict[str, Any]) -> list[float]:
        """``momentum`` and ``dampening``."""
        return [float(group["momentum"]), float(group["dampening"])]

    @staticmethod
    def check_step(group: dict[str, Any], index: int) -> None:
        """Raise ValueError where a step would divide the weight decay by 0, or by less."""
        momentum, decay = group["momentum"], group["weight_decay"]
        # The value of a tensor on a device is not read: that would wait for the device.
        decays = (isinstance(decay, Tensor) and not decay.is_cpu) or float(decay) != 0
        if decays and float(momentum) >= 1:
            raise ValueError(
                f"group {index}: momentum={momentum!r} must be below 1 where "
                f"weight_decay={decay!r} is not 0, since SGDP divides the weight decay by "
                "1 - momentum: use momentum=0.9 or weight_decay=0"
            )

    @staticmethod
    def accumulate(
        g: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> tuple[Tensor, Any, Any]:
        """Update ``momentum``; the decay is ``lr * weight_decay / (1 - momentum)``."""
        momentum = group["momentum"]
        b = _update(state["momentum"], g, momentum, 1 - group["dampening"])
        u = F.moving_average(b, g, momentum, 1) if group["nesterov"] else b
        lr = group["lr"]
        return u, _like(lr, g), _like(lr * F.sgd_decay(group["weight_decay"], momentum), g)


def _update(average: Tensor, value: Tensor, beta: float, gain: float) -> Tensor:
    """Move a stored average and return it as stored: what a later pass would read back."""
    average.copy_(F.moving_average(average.to(value.dtype), value, beta, gain))
    return average.to(value.dtype)


def _like(number: Any, g: Tensor) -> Any:
    """A tensor ``lr`` as a 0-dim tensor beside ``g``, so that it neither promotes nor waits."""
    if isinstance(number, Tensor):
        return number.reshape(()).to(device=g.device, dtype=g.dtype, non_blocking=True)
    return number
