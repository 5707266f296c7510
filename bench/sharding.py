"""``python -m bench sharding``: the step of DTensors, on two processes of this machine.

Each process has one thread and half the rows of each tensor, as FSDP2 cuts them. A process waits
for the other before each timed step, and a step's collectives are part of its time.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.nn import Parameter

from bench.lib import machine
from bench.lib.gradients import Gradients, make_weights
from bench.lib.implementations import ADAM, Implementation, baseline_of, ours
from bench.lib.report import console, files
from bench.lib.workloads import WORKLOADS, Workload, uniform

PROCESSES = 2
ROUNDS = 30
CPU = torch.device("cpu")
#: Small tensors, where a step is the host's time; and many of them.
FEW, MANY = 150, 21_000


@dataclasses.dataclass(frozen=True)
class Row:
    """One workload, AdamP: medians of one process, in milliseconds.

    Attributes:
        workload: its title.
        tensors: how many.
        baseline_ms: torch's fused AdamW on DTensors (its fused SGD refuses them); None: left out.
        ours_ms: this package's on the same.
        plain_ms: this package's on plain tensors of the local sizes: without collectives.
        ratio: the median of ours over the baseline's, turn by turn.
        collectives: of a step of ours.
        collective_bytes: of each process, in all of them.
    """

    workload: str
    tensors: int
    baseline_ms: float | None
    ours_ms: float
    plain_ms: float
    ratio: float | None
    collectives: int
    collective_bytes: int


@dataclasses.dataclass
class ShardingReport:
    """Content of ``*-sharding.json``."""

    machine: dict[str, str | int | float | None]
    settings: dict[str, str | int]
    rows: list[Row] = dataclasses.field(default_factory=list)


def workloads() -> list[Workload]:
    """What is measured."""
    return [WORKLOADS["resnet50"](), uniform(FEW, 16, 16), uniform(MANY, 8, 8)]


class _Runner:
    def __init__(self, implementation: Implementation, params: list[Any], grads: list[Any]) -> None:
        self.params, self.samples = params, list[float]()
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        self.optimizer = implementation.build(params)

    def step(self) -> None:
        dist.barrier()
        start = time.perf_counter()
        self.optimizer.step()
        self.samples.append(time.perf_counter() - start)

    @property
    def ms(self) -> float:
        return statistics.median(self.samples) * 1e3


def _counted(runner: _Runner) -> tuple[int, int]:
    """The all-reduces of a step, and their bytes."""
    sizes: list[int] = []
    original = dist.all_reduce

    def all_reduce(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        sizes.append(tensor.nbytes)
        return original(tensor, *args, **kwargs)

    dist.all_reduce = all_reduce
    try:
        runner.optimizer.step()
    finally:
        dist.all_reduce = original
    return len(sizes), sum(sizes)


def _measure(workload: Workload, rounds: int) -> Row:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard

    mesh = init_device_mesh("cpu", (PROCESSES,))
    weights = make_weights(workload, CPU, torch.float32)
    grads = Gradients(workload, weights, "natural").tensors

    def part(whole: Tensor) -> Tensor:
        # Every process has the same tensors: nothing has to be sent.
        return whole.chunk(PROCESSES)[dist.get_rank()].clone()

    def shared(whole: Tensor) -> Any:
        return DTensor.from_local(
            part(whole),
            mesh,
            [Shard(0)],
            run_check=False,
            shape=whole.shape,
            stride=whole.stride(),
        )

    on_grads = [shared(grad) for grad in grads]
    local: list[Any] = [grad.to_local() for grad in on_grads]

    def on_dtensors(implementation: Implementation) -> _Runner:
        return _Runner(implementation, [Parameter(shared(w)) for w in weights], on_grads)

    plain = [part(w) for w in weights]
    # The first step of torch's fused AdamW takes 0.4 s with 150 DTensors, 3.1 s with 600.
    has_baseline = len(weights) < MANY
    mine = on_dtensors(ours(CPU, ADAM))
    theirs = [on_dtensors(baseline_of(ADAM))] if has_baseline else []
    alone = _Runner(ours(CPU, ADAM), [Parameter(w) for w in plain], local)
    runners = [mine, *theirs, alone]
    for runner in runners * 3:
        runner.step()
    for runner in runners:
        runner.samples.clear()
    for turn in range(rounds):
        for i in range(len(runners)):
            runners[(turn + i) % len(runners)].step()
    ratios = [a / b for them in theirs for a, b in zip(mine.samples, them.samples, strict=True)]
    n, size = _counted(mine)
    return Row(
        workload.title,
        len(weights),
        theirs[0].ms if theirs else None,
        mine.ms,
        alone.ms,
        statistics.median(ratios) if ratios else None,
        n,
        size,
    )


def _process(rank: int, folder: str, rounds: int, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES
    )
    settings: dict[str, str | int] = {"processes": PROCESSES, "rounds": rounds, "threads": 1}
    report = ShardingReport(machine.describe(CPU), settings)
    path = Path(out) / "cpu-sharding.json"
    for workload in workloads():
        row = _measure(workload, rounds)
        report.rows.append(row)
        if rank == 0:
            of_adamw = "" if row.ratio is None else f"{row.ratio:.2f} of AdamW; "
            console.say(
                f"  {row.workload}: {row.ours_ms:.2f} ms, {of_adamw}plain tensors "
                f"{row.plain_ms:.2f}; {row.collectives} collectives, {row.collective_bytes:,} bytes"
            )
            files.write(path, report)
    dist.destroy_process_group()


def run(rounds: int, out: Path) -> None:
    """Measure every workload, and write the report."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = folder, rounds, str(out)
        spawn(_process, arguments, nprocs=PROCESSES)  # type: ignore[no-untyped-call]
