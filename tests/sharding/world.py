"""Processes joined by gloo, which all run what they are told; started once for many tests."""

import multiprocessing as mp
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

SIZE = 4  # as many as the largest mesh
PATIENCE = 300.0  # seconds for one call


class World:
    """``SIZE`` processes; :meth:`run` calls a function of a module in all of them."""

    def __init__(self, folder: Path) -> None:
        """``folder``: where they meet."""
        context = mp.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        for rank in range(SIZE):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, str(folder), there), daemon=True)
            process.start()
            there.close()
            self._ends.append(here)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What each process returned; fails with the traceback of one that raised."""
        for end in self._ends:
            end.send((function, args))
        results, errors = [], []
        for rank, end in enumerate(self._ends):
            if not end.poll(PATIENCE):
                self.close()
                raise AssertionError(f"process {rank} does not answer: a collective hangs")
            is_error, value = end.recv()
            (errors if is_error else results).append(value)
        assert not errors, errors[0]
        return results

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()


def _serve(rank: int, folder: str, end: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=SIZE,
        timeout=timedelta(seconds=PATIENCE),
    )
    while True:
        function, args = end.recv()
        try:
            end.send((False, function(*args)))
        except BaseException:
            end.send((True, f"process {rank}:\n{traceback.format_exc()}"))
