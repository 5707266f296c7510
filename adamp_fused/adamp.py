"""FusedAdamP: AdamP (Heo et al., ICLR 2021) at the cost of AdamW."""

from __future__ import annotations

from torch import Tensor
from torch.optim.optimizer import ParamsT

from adamp_fused._methods import AdamP
from adamp_fused._optimizer import ProjectedOptimizer


class FusedAdamP(ProjectedOptimizer):
    r"""AdamP, a drop-in for ``adamp.AdamP`` with the whole step in one launch.

    For a weight :math:`p` with gradient :math:`g`, step :math:`t = 1, 2, \ldots`:

    .. math::
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2 \\
        u &= \frac{m}{\sqrt{v}/\sqrt{1-\beta_2^t} + \epsilon}, \qquad
        \eta = \frac{lr}{1-\beta_1^t} \\
        p &\leftarrow (1 - lr \cdot wd \cdot r)\, p - \eta\, \Pi(u)

    With ``nesterov`` the numerator of :math:`u` is :math:`\beta_1 m + (1-\beta_1) g`. A weight of
    two or more dimensions is seen as rows, first one for each channel (dimension 0), then one for
    the whole layer. In the first of these views in which **every** row of length :math:`D` fulfils

    .. math:: |\cos(p_{row}, g_{row})| < \delta / \sqrt{D}

    the radial part is removed, row by row,
    :math:`\Pi(u) = u - p\,(p \cdot u)/(\|p\| + \epsilon)^2`, and :math:`r` is ``wd_ratio``. In
    neither, and for weights of fewer dimensions, :math:`\Pi(u) = u` and :math:`r = 1`.

    Args:
        params: parameters or parameter groups, of dtype float32, float64, bfloat16 or float16.
        lr: learning rate, at least 0; a number or a tensor of one element.
        betas: decay rates :math:`\beta_1, \beta_2` of the two moments, each in [0, 1); any
            sequence of two.
        eps: :math:`\epsilon`, at least 0; also the lower clamp of each norm in the cosine.
        weight_decay: decoupled weight decay, at least 0; a number or a tensor of one element.
        delta: :math:`\delta`, at least 0; the threshold of the cosine.
        wd_ratio: factor of the weight decay on projected weights, at least 0.
        nesterov: use Nesterov momentum.
        projection: ``"auto"``, the test above; ``"channel"`` or ``"layer"``, always project in that
            view, without a test (for weights known to be followed by a normalisation); ``"off"``,
            never.
        maximize: step along the gradient instead of against it.
        capturable: keep ``step`` on the parameter's device, so that a CUDA graph can hold the step;
            ``lr`` and ``weight_decay`` may then be tensors there (float32), which each replay reads
            anew. Whatever ``torch.cuda.graph`` captures needs a step before the capture, and all
            gradients in it.
        fused: for a configuration shared with torch's optimizers: None, or True (False where
            ``backend="reference"``, plain torch operations).
        foreach: likewise: None or False.
        differentiable: likewise: False.
        state_dtype: None.
        master_weights: False.
        stochastic_rounding: False. These three are for training in 16 bits, to come.
        grad_scaling: let ``torch.amp.GradScaler`` leave unscaling and skipping to the step, as with
            torch's fused optimizers: no host waits, and nothing of a skipped step is written.
            False: GradScaler does both itself, and waits; use that where Lightning clips, or
            Accelerate's scheduler counts steps. Not an option of a group.
        max_grad_norm: at least 0; the result is that of ``torch.nn.utils.clip_grad_norm_`` before
            the step, over all parameters of the optimizer and after unscaling. Gradients are left
            as they are. An infinite norm makes them 0, a NaN all NaN, as there. None: no clipping.
            Not an option of a group.
        stats: each step leaves on the device what :meth:`stats` reads: outcomes, margins, norms,
            effective learning rates, of each parameter. Not an option of a group.
        backend: ``"cuda"``, ``"triton"``, ``"cpu"``, ``"reference"``, or None for the best one of
            each parameter's device. Not an option of a group.

    State of each parameter, compatible with ``adamp`` 0.3.0: ``step`` (0-dim tensor), ``exp_avg``,
    ``exp_avg_sq`` (shape and dtype of the parameter); and, where ``projection="auto"`` tests it,
    ``view``, the last outcome (0-dim int32: 0 none, 1 channel, 2 layer); with ``stats=True``
    ``stats`` (float64), what :meth:`stats` reads.

    float16 and bfloat16 parameters are computed in float32: moments and weights are rounded once,
    when they are stored.

    Raises:
        ValueError: an option is out of its range; the message names it.
        TypeError: a parameter is not a dense floating-point tensor, or an option of another type.
        RuntimeError: the requested backend cannot serve a parameter's device.

    Source:
        Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
        Weights", ICLR 2021, algorithm 2 and section 3; constants of the official package.

    Example:
        >>> optimizer = FusedAdamP(model.parameters(), lr=1e-3, weight_decay=1e-2)
        >>> loss_fn(model(inputs), targets).backward()
        >>> optimizer.step()
    """

    _method = AdamP

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
        *,
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
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "delta": delta,
            "wd_ratio": wd_ratio,
            "nesterov": nesterov,
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
