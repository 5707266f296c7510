"""Figure 1: momentum inflates the norm of a weight of two elements, and stops its descent."""

from __future__ import annotations

import functools

import torch
from torch.nn import Parameter
from torch.nn import functional as F

from bench.paper.experiment import Case, Experiment, Gate, Record, Settings, Table, select
from bench.paper.optimizers import build

STEPS = 500
MEASURED_AT = 100
BETAS = (0.9, 0.95, 0.99)

NORM_MARK, LOSS_MARK = 0.005, 5e-5

PUBLISHED = {
    ("gd", 0.0): (1.02, 3.9949),
    ("momentum", 0.9): (2.93, 0.0513),
    ("momentum", 0.95): (5.67, 0.0509),
    ("momentum", 0.99): (27.87, 0.0630),
    ("ours", 0.9): (1.12, 0.0010),
    ("ours", 0.95): (1.14, 0.0008),
    ("ours", 0.99): (1.15, 0.0043),
}
"""Final norm, and loss at iteration 100, of the figure and its videos."""

TITLES = {"gd": "GD", "momentum": "momentum", "ours": "projected (SGDP)"}


def trajectory(kind: str, beta: float, backend: str) -> Record:
    """500 iterations of one of the figure's three optimizers."""
    w = Parameter(torch.tensor([[0.001, 1.0]], dtype=torch.float64))
    optimum = torch.tensor([[0.0, -1.0]], dtype=torch.float64)
    if kind == "ours":
        # As the paper writes the algorithm: the buffer stays as it was before the projection.
        optimizer = build("sgdp", [w], backend, 0.01, beta, project_buffer=False)
    else:
        optimizer = build("sgd", [w], backend, 0.01, beta)
    path, losses = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (1 - F.cosine_similarity(w, optimum).sum()) ** 2
        loss.backward()  # type: ignore[no-untyped-call]
        path.append(w.tolist()[0])
        losses.append(loss.item())
        optimizer.step()
    path.append(w.tolist()[0])
    return {
        "kind": kind,
        "beta": beta,
        "final_norm": w.norm().item(),
        "loss_at_100": losses[MEASURED_AT],
        "path": [[round(value, 4) for value in point] for point in path[::5]],
        "losses": [float(f"{loss:.4g}") for loss in losses[::5]],
    }


def cases(settings: Settings) -> list[Case]:
    """GD, and momentum with and without the projection for three betas."""
    return [functools.partial(trajectory, *each, settings.backend) for each in PUBLISHED]


def gates(records: list[Record]) -> list[Gate]:
    """Each published number to the precision that it is printed with."""
    found = []
    for (kind, beta), (norm, loss) in PUBLISHED.items():
        (record,) = select(records, kind=kind, beta=beta)
        label = TITLES[kind] + (f", β = {beta:g}" if beta else "")
        error = abs(record["final_norm"] - norm)
        found.append(Gate(f"{label}: final norm less {norm}", error, "<=", NORM_MARK))
        error = abs(record["loss_at_100"] - loss)
        found.append(Gate(f"{label}: loss at 100 less {loss:.4f}", error, "<=", LOSS_MARK))
    return found


def table(records: list[Record]) -> Table:
    """Measured and published side by side."""
    rows = [["", "final norm", "paper", "loss at iteration 100", "paper"]]
    for (kind, beta), (norm, loss) in PUBLISHED.items():
        (record,) = select(records, kind=kind, beta=beta)
        label = TITLES[kind] + (f", β = {beta:g}" if beta else "")
        figures = [f"{record['final_norm']:.4f}", f"{norm:.2f}"]
        rows.append([label, *figures, f"{record['loss_at_100']:.5f}", f"{loss:.4f}"])
    return rows


EXPERIMENT = Experiment(
    name="figure1",
    title="Figure 1: a toy of two dimensions",
    section="figure 1 and the videos of the project page",
    statement=(
        "Momentum inflates the norm of a scale-invariant weight and slows it down; the "
        "projection keeps both in check. The final norms are 2.93, 5.67 and 27.87 with momentum "
        "0.9, 0.95 and 0.99, with the projection 1.12, 1.14 and 1.15, and 1.02 for GD."
    ),
    setup=(
        "w = (0.001, 1), loss (1 - cos(w, (0, -1)))², learning rate 0.01, 500 iterations, "
        "float64; SGD of torch, and FusedSGDP with `project_buffer=False`."
    ),
    mark="final norms to 0.005, losses at iteration 100 to 5e-5",
    cases=cases,
    gates=gates,
    table=table,
    picture=("paper-figure1.png", "Trajectories, loss and norm of the toy of figure 1"),
)
