"""The lemmas, stepped by the real optimizers in float64.

Symbols as in the paper: weight ``w``, learning rate ``eta``, momentum ``beta``, raw update ``p``,
projected update ``q``. ``p`` and ``q`` are computed here a second time from the equations, and
rows are projected here by the definition alone, so that a projection of the wrong sign, in the
wrong view or without ``eps`` shows.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F

from bench.paper.experiment import Case, Experiment, Gate, Record, Settings, Table
from bench.paper.optimizers import build

EXACT = 1e-12
ROWS, COLUMNS = 5, 7
STEPS = 60
LR = 0.1

VIEWS = {"channel": ROWS, "layer": 1}
"""Number of rows of each view."""


def _randn(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _weight(seed: int = 0) -> Parameter:
    return Parameter(_randn(ROWS, COLUMNS, seed=seed))


def _rows(w: Tensor, view: str) -> Tensor:
    return w.detach().reshape(VIEWS[view], -1)


def scale_invariant_loss(w: Tensor, view: str, seed: int = 1) -> Tensor:
    """A smooth loss that the scale of each row of the view does not change."""
    direction = F.normalize(w.reshape(VIEWS[view], -1), dim=1).reshape(w.shape)
    inputs, targets = _randn(COLUMNS, 9, seed=seed), _randn(ROWS, 9, seed=seed + 1)
    loss: Tensor = (torch.sin(2 * direction @ inputs) - targets).square().sum()
    return loss


def _gradient(w: Parameter, view: str) -> Tensor:
    grad: Tensor = torch.autograd.grad(scale_invariant_loss(w, view), w)[0]
    return grad


def _square(w: Tensor, view: str) -> float:
    """``|w|^2`` of the first row; kept step by step, so that anybody can do the sums again."""
    return _rows(w, view)[0].square().sum().item()


def _relative(measured: Tensor, expected: Tensor) -> float:
    """Largest error of any row, over the size of what is expected there."""
    return ((measured - expected).abs().max() / expected.abs().max()).item()


def _worst(errors: list[float]) -> float:
    """The largest; NaN if any is, which max() would pass over."""
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def project(p: Tensor, w: Tensor, view: str, eps: float = 0.0) -> Tensor:
    """``p`` without its part along each row of ``w``; the norm is taken for ``eps`` larger."""
    rows, along = _rows(p, view), _rows(w, view)
    along = along / (along.norm(dim=1, keepdim=True) + eps)
    projected: Tensor = rows - along * (along * rows).sum(1, keepdim=True)
    return projected.reshape(p.shape)


def equation_4(view: str) -> Record:
    """``w . grad = 0`` for a scale-invariant loss."""
    errors = []
    for seed in range(20):
        w = _weight(seed)
        grad, rows = _rows(_gradient(w, view), view), _rows(w, view)
        errors.append(F.cosine_similarity(grad, rows, dim=1).abs().max().item())
    return {"lemma": "Eq. 4", "what": f"cos(w, grad), {view}", "error": _worst(errors)}


def lemma_2_1(name: str, view: str, backend: str) -> Record:
    """``|w'|^2 = |w|^2 + eta^2 |p|^2`` of gradient descent, by row."""
    w = _weight()
    options = {"projection": "off"} if name == "sgdp" else {}
    optimizer = build(name, [w], backend, LR, 0.0, **options)
    errors, squares = [], {"w": [_square(w, view)], "p": []}
    for _ in range(STEPS):
        before, w.grad = w.detach().clone(), _gradient(w, view)
        optimizer.step()
        expected = (_rows(before, view).square() + LR**2 * _rows(w.grad, view).square()).sum(1)
        errors.append(_relative(_rows(w, view).square().sum(1), expected))
        squares["w"].append(_square(w, view))
        squares["p"].append(_square(w.grad, view))
    case = {"lemma": "Lemma 2.1", "what": f"{name}, {view}"}
    return case | {"error": _worst(errors), "eta": LR, "beta": 0.0, "squares": squares}


def lemma_2_2(name: str, beta: float, view: str, backend: str) -> Record:
    """The norm under momentum, and the sum over all earlier updates in it.

    ``|w_{t+1}|^2 = |w_t|^2 + eta^2 |p_t|^2 + 2 eta^2 sum_{k<t} beta^(t-k) |p_k|^2``
    """
    w = _weight()
    options = {"projection": "off"} if name == "sgdp" else {}
    optimizer = build(name, [w], backend, LR, beta, **options)
    p, earlier = torch.zeros_like(w), torch.zeros(VIEWS[view], dtype=torch.float64)
    errors, squares = [], {"w": [_square(w, view)], "p": []}
    for _ in range(STEPS):
        before, w.grad = w.detach().clone(), _gradient(w, view)
        p = beta * p + w.grad
        optimizer.step()
        squares["w"].append(_square(w, view))
        squares["p"].append(_square(p, view))
        size = _rows(p, view).square().sum(1)
        expected = _rows(before, view).square().sum(1) + LR**2 * size + 2 * LR**2 * earlier
        errors.append(_relative(_rows(w, view).square().sum(1), expected))
        earlier = beta * (earlier + size)
    case = {"lemma": "Lemma 2.2", "what": f"{name}, β = {beta:g}, {view}"}
    return case | {"error": _worst(errors), "eta": LR, "beta": beta, "squares": squares}


def corollary_2_3(name: str, beta: float, backend: str) -> Record:
    """Growth of ``|w|^2`` under momentum over that of GD, for updates of equal norm.

    Gradients are drawn so that they are orthogonal to ``w`` and each ``|p_t|`` is 1. Each
    increment over GD's tends to ``1 + 2 beta / (1 - beta)``, and the totals with it.
    """
    w = Parameter(_randn(1, COLUMNS, seed=3))
    options = {"projection": "off"} if name == "sgdp" else {}
    optimizer = build(name, [w], backend, LR, beta, **options)
    steps = math.ceil(math.log(1e-15) / math.log(beta))
    p, total, expected = torch.zeros_like(w), 0.0, 0.0
    generator = torch.Generator().manual_seed(4)
    for step in range(steps):
        before = w.detach().clone()
        along = before / before.norm()
        radial = (beta * (p * along).sum()) * along
        noise = torch.randn(w.shape, generator=generator, dtype=torch.float64)
        tangent = F.normalize(noise - (noise * along).sum() * along)
        p_next = radial + (1 - radial.square().sum()).sqrt() * tangent
        w.grad, p = p_next - beta * p, p_next
        optimizer.step()
        # GD grows by eta^2 a step, by Lemma 2.1; the difference of squares, without cancellation.
        increment = ((w.detach() - before) * (w.detach() + before)).sum().item() / LR**2
        total += increment
        expected += 1 + 2 * beta * (1 - beta**step) / (1 - beta)
    limit = 1 + 2 * beta / (1 - beta)
    return {
        "lemma": "Corollary 2.3",
        "what": f"{name}, β = {beta:g}: ratio {limit:.0f}",
        "error": _worst([abs(increment / limit - 1), abs(total / expected - 1)]),
        "beta": beta,
        "steps": steps,
        "last_increment": increment,
        "total": total,
        "expected_total": expected,
    }


def equation_12(projection: str, view: str, project_buffer: bool, backend: str) -> Record:
    """``|w_{t+1}|^2 = |w_t|^2 + eta^2 |q_t|^2 <= ... + eta^2 |p_t|^2``, by row, of FusedSGDP."""
    beta, w = 0.9, _weight()
    optimizer = build(
        "sgdp", [w], backend, LR, beta, project_buffer=project_buffer, projection=projection, eps=0
    )
    buffer = torch.zeros_like(w)
    errors, kept = [], {"w": [_square(w, view)], "p": [], "q": []}
    for _ in range(STEPS):
        before, w.grad = w.detach().clone(), _gradient(w, view)
        p = beta * buffer + w.grad
        q = project(p, before, view)
        buffer = q if project_buffer else p
        optimizer.step()
        stepped = (before - w.detach()) / LR
        squares = [_rows(each, view).square().sum(1) for each in (before, w, stepped, p)]
        errors += [
            _relative(squares[1], squares[0] + LR**2 * squares[2]),
            # An error only where the inequality does not hold.
            (squares[2] / squares[3] - 1).clamp(min=0).max().item(),
            _relative(stepped, q),
        ]
        for key, value in (("w", w), ("p", p), ("q", q)):
            kept[key].append(_square(value, view))
    buffer_kept = "q" if project_buffer else "p"
    what = f"SGDP, projection={projection}, {view}, buffer {buffer_kept}"
    case = {"lemma": "Eq. 12", "what": what, "error": _worst(errors)}
    return case | {"eta": LR, "squares": kept}


def equation_12_adamp(projection: str, view: str, backend: str) -> Record:
    """The same of FusedAdamP, whose learning rate is ``lr / (1 - beta1^t)``."""
    beta1, beta2, w = 0.9, 0.999, _weight()
    optimizer = build("adamp", [w], backend, LR, beta1, projection=projection, eps=0)
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    errors = []
    for step in range(1, STEPS + 1):
        before, w.grad = w.detach().clone(), _gradient(w, view)
        m, v = beta1 * m + (1 - beta1) * w.grad, beta2 * v + (1 - beta2) * w.grad.square()
        p = m / (v / (1 - beta2**step)).sqrt()
        eta = LR / (1 - beta1**step)
        optimizer.step()
        stepped = (before - w.detach()) / eta
        squares = [_rows(each, view).square().sum(1) for each in (before, w, stepped, p)]
        errors += [
            _relative(squares[1], squares[0] + eta**2 * squares[2]),
            (squares[2] / squares[3] - 1).clamp(min=0).max().item(),
            _relative(stepped, project(p, before, view)),
        ]
    what = f"AdamP, projection={projection}, {view}"
    return {"lemma": "Eq. 12", "what": what, "error": _worst(errors)}


def proposition_3_1(view: str, backend: str) -> Record:
    """``w``, ``w - eta p`` and ``w - eta q`` lie on one great circle, on the same side of ``w``."""
    beta, w, twin = 0.9, _weight(), _weight()
    projected = build("sgdp", [w], backend, LR, beta, project_buffer=False, eps=0, projection=view)
    plain = build("sgdp", [twin], backend, LR, beta, projection="off")
    errors = []
    for _ in range(STEPS):
        before = w.detach().clone()
        w.grad = _gradient(w, view)
        # One step of either from the same weight and buffer.
        twin.data.copy_(before)
        twin.grad = w.grad
        plain.step()
        projected.step()
        for rows in zip(*(_rows(each, view) for each in (before, twin, w)), strict=True):
            points = F.normalize(torch.stack(rows), dim=1)
            singular = torch.linalg.svdvals(points)
            # Tangents at w of the ways to the other two.
            tangents = points[1:] - (points[1:] @ points[0])[:, None] * points[0]
            sides = F.normalize(tangents, dim=1)
            errors += [(singular[2] / singular[0]).item(), (sides[0] - sides[1]).norm().item()]
        # The raw updates agree; only the weights do not.
        errors.append(_relative(projected.state[w]["momentum"], plain.state[twin]["momentum"]))
    return {"lemma": "Proposition 3.1", "what": f"SGDP, {view}", "error": _worst(errors)}


def constant_eps(name: str, view: str, backend: str) -> Record:
    """The projection of rows whose norm is ``eps``: a quarter of the radial part goes.

    The official code divides by ``|w| + eps``; with larger weights nothing would show.
    """
    eps = 1e-3
    w = Parameter(_weight().detach())
    rows = w.data.view(VIEWS[view], -1)
    rows *= eps / rows.norm(dim=1, keepdim=True)
    before = w.detach().clone()
    w.grad = _randn(ROWS, COLUMNS, seed=6)
    optimizer = build(name, [w], backend, LR, 0.0, projection=view, eps=eps)
    optimizer.step()
    # Adam's first step, without momentum: g / (|g| + eps).
    p = w.grad if name == "sgdp" else w.grad / (w.grad.abs() + eps)
    stepped = (before - w.detach()) / LR
    error = _relative(stepped, project(p, before, view, eps))
    return {"lemma": "eps of the code", "what": f"{name}, projection={view}", "error": error}


def clamp_eps(name: str, backend: str) -> Record:
    """The cosine's norms are clamped at ``eps``: a radial gradient passes on a weight below it."""
    eps = 1e-3
    w = Parameter(_weight().detach())
    w.data.mul_(0.01 * eps / w.data.norm(dim=1, keepdim=True))
    # cos = |w| / eps = 0.01, below delta / sqrt(7) = 0.038; unclamped it is 1.
    w.grad = 200 * w.detach()
    optimizer = build(name, [w], backend, LR, 0.0, eps=eps)
    optimizer.step()
    view = int(optimizer.state[w]["view"])
    return {"lemma": "eps of the code", "what": f"{name}, clamp", "error": float(view != 1)}


def cases(settings: Settings) -> list[Case]:
    """Every lemma in every view, by every optimizer that it is about."""
    backend, part = settings.backend, functools.partial
    found: list[Case] = [part(equation_4, view) for view in VIEWS]
    for name, view in itertools.product(("sgd", "sgdp"), VIEWS):
        found.append(part(lemma_2_1, name, view, backend))
        found += [part(lemma_2_2, name, beta, view, backend) for beta in (0.5, 0.9, 0.99)]
    for name in ("sgd", "sgdp"):
        found += [part(corollary_2_3, name, beta, backend) for beta in (0.5, 0.9, 0.99)]
    for view in VIEWS:
        # Found by the test, or told.
        for projection in ("auto", view):
            found += [part(equation_12, projection, view, b, backend) for b in (False, True)]
            found.append(part(equation_12_adamp, projection, view, backend))
        found.append(part(proposition_3_1, view, backend))
        found += [part(constant_eps, name, view, backend) for name in ("sgdp", "adamp")]
    return found + [part(clamp_eps, name, backend) for name in ("sgdp", "adamp")]


def _largest(records: list[Record]) -> dict[str, tuple[float, int]]:
    found: dict[str, tuple[float, int]] = {}
    for record in records:
        error, count = found.get(record["lemma"], (0.0, 0))
        found[record["lemma"]] = _worst([error, record["error"]]), count + 1
    return found


def gates(records: list[Record]) -> list[Gate]:
    """The largest relative error of each lemma."""
    return [
        Gate(f"{lemma}, largest relative error", error, "<=", EXACT)
        for lemma, (error, _) in _largest(records).items()
    ]


SAYS = {
    "Eq. 4": "w · grad = 0",
    "Lemma 2.1": "|w'|² = |w|² + η²|p|²",
    "Lemma 2.2": "|w'|² = |w|² + η²|p|² + 2η² Σ β^(t-k) |p_k|²",
    "Corollary 2.3": "growth over GD's: 1 + 2β/(1-β) = 3, 19, 199",
    "Eq. 12": "|w'|² = |w|² + η²|q|² ≤ |w|² + η²|p|²",
    "Proposition 3.1": "w, w - ηp, w - ηq on one great circle",
    "eps of the code": "q = p - n (n · p), n = w / (|w| + eps)",
}


def table(records: list[Record]) -> Table:
    """Each lemma with the number of its cases."""
    rows = [["", "says", "cases", "largest relative error"]]
    for lemma, (error, count) in _largest(records).items():
        rows.append([lemma, SAYS[lemma], str(count), f"{error:.1e}"])
    return rows


EXPERIMENT = Experiment(
    name="lemmas",
    title="The lemmas",
    section="sections 2 and 3, appendix",
    statement=(
        "For scale-invariant weights the gradient is orthogonal to the weight, momentum adds up "
        "the radial parts of earlier updates, and the projection removes them without leaving "
        "the geodesic."
    ),
    setup=(
        f"weights of {ROWS} by {COLUMNS}, {STEPS} steps, float64: SGD of torch, FusedSGDP and "
        "FusedAdamP, channel-wise and layer-wise, the view told or found by the test, with both "
        "kinds of momentum buffer."
    ),
    mark="each relative error at most 1e-12",
    cases=cases,
    gates=gates,
    table=table,
    remark=(
        "The last line is no lemma but a constant of the official code, "
        "checked on rows whose norm is eps."
    ),
)
