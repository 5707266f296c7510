"""FusedSGDP: SGDP (Heo et al., ICLR 2021) at the cost of SGD with momentum."""

from __future__ import annotations

from torch import Tensor
from torch.optim.optimizer import ParamsT

from adamp_fused._methods import SGDP
from adamp_fused._optimizer import ProjectedOptimizer


class FusedSGDP(ProjectedOptimizer):
    r"""SGDP, a drop-in for ``adamp.SGDP`` with the whole step in one launch.

    For a weight :math:`p` with gradient :math:`g`:

    .. math::
        b &\leftarrow \mu b + (1 - d) g, \qquad u = b \quad (u = g + \mu b \text{ with nesterov}) \\
        p &\leftarrow \Bigl(1 - \frac{lr \cdot wd \cdot r}{1-\mu}\Bigr) p - lr\, \Pi(u)

    with momentum :math:`\mu` and dampening :math:`d`; the projection :math:`\Pi` and :math:`r` as
    in :class:`FusedAdamP`.

    Args:
        params: parameters or parameter groups, of dtype float32, float64, bfloat16 or float16.
        lr: learning rate, at least 0; a number or a tensor of one element.
        momentum: :math:`\mu`, at least 0; below 1 in a step with weight decay.
        dampening: :math:`d`, finite.
        weight_decay: decoupled weight decay, at least 0; unlike that of ``torch.optim.SGD`` it does
            not pass through the momentum, hence the :math:`1-\mu`.
        nesterov: use Nesterov momentum.
        eps: at least 0; added to the norm in the projection, lower clamp of each norm in the
            cosine.
        delta: threshold of the cosine, at least 0.
        wd_ratio: factor of the weight decay on projected weights, at least 0.
        project_buffer: without nesterov :math:`u` *is* the momentum buffer. True: the projected
            :math:`\Pi(u)` becomes the buffer that the next step starts from, as in the official
            package. False: the buffer stays as it was before the projection, as the paper writes
            it. With nesterov both are the same.
        projection: ``"auto"``, ``"channel"``, ``"layer"`` or ``"off"``, as in :class:`FusedAdamP`.
        maximize: step along the gradient instead of against it.
        capturable: as in :class:`FusedAdamP`, though SGDP keeps no step count.
        fused: for a configuration shared with torch's optimizers: None, or True (False where
            ``backend="reference"``, plain torch operations).
        foreach: likewise: None or False.
        differentiable: likewise: False.
        state_dtype, master_weights, stochastic_rounding: as in :class:`FusedAdamP`.
        grad_scaling, max_grad_norm: as in :class:`FusedAdamP`.
        stats: each step leaves on the device what :meth:`stats` reads: outcomes, margins, norms,
            effective learning rates, of each parameter. Not an option of a group.
        backend: ``"cuda"``, ``"triton"``, ``"cpu"``, ``"reference"``, or None for the best one of
            each parameter's device. Not an option of a group.

    State of each parameter, compatible with ``adamp`` 0.3.0: ``momentum`` (shape and dtype of the
    parameter); and, where ``projection="auto"`` tests it, ``view``, the last outcome (0-dim int32:
    0 none, 1 channel, 2 layer).

    float16 and bfloat16 parameters are computed in float32: the buffer and the weights are rounded
    once, when they are stored.

    Raises:
        ValueError: an option is out of its range; the message names it.
        TypeError: a parameter is not a dense floating-point tensor, or an option of another type.
        RuntimeError: the requested backend cannot serve a parameter's device.

    Source:
        Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
        Weights", ICLR 2021, algorithm 1 and section 3; constants of the official package.

    Example:
        >>> optimizer = FusedSGDP(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-5)
        >>> loss_fn(model(inputs), targets).backward()
        >>> optimizer.step()
    """

    _method = SGDP

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        *,
        project_buffer: bool = True,
        projection: str = "auto",
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
        foreach: bool | None = None,
        differentiable: bool = False,
        state_dtype: None = None,
        master_weights: bool = False,
        stochastic_rounding: bool = False,
        grad_scaling: bool = False,
        max_grad_norm: float | None = None,
        stats: bool = False,
        backend: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "eps": eps,
            "delta": delta,
            "wd_ratio": wd_ratio,
            "project_buffer": project_buffer,
            "projection": projection,
            "maximize": maximize,
            "capturable": capturable,
            "fused": fused,
            "foreach": foreach,
            "differentiable": differentiable,
            "state_dtype": state_dtype,
            "master_weights": master_weights,
            "stochastic_rounding": stochastic_rounding,
        }
        super().__init__(params, defaults, backend, grad_scaling, max_grad_norm, stats)
