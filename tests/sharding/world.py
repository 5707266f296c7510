"""Processes joined by gloo, which all run what they are told; started once for many tests."""

import multiprocessing as mp
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
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
        self._folder = folder
        self._starts = 0
        self._ends: list[Connection] = []
        self._processes: list[Any] = []

    def _start(self) -> None:
        context = mp.get_context("spawn")
        self._starts += 1
        meeting = self._folder / f"meet{self._starts}"
        for rank in range(SIZE):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, str(meeting), there), daemon=True)
            process.start()
            there.close()
            self._ends.append(here)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What each process returned; fails with the traceback of the first that raised."""
        if not self._processes:
            self._start()
        for end in self._ends:
            end.send((function, args))
        waiting = dict(enumerate(self._ends))
        by_rank: dict[int, Any] = {}
        while waiting:
            ready = wait(list(waiting.values()), timeout=PATIENCE)
            if not ready:
                self.close()
                raise AssertionError(f"processes {sorted(waiting)} do not answer: one may hang")
            for rank, end in list(waiting.items()):
                if end not in ready:
                    continue
                is_error, by_rank[rank] = end.recv()
                del waiting[rank]
                if is_error:
                    # The others may wait for it for ever. New ones serve the next test.
                    self.close()
                    raise AssertionError(by_rank[rank])
        return [by_rank[rank] for rank in range(SIZE)]

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
        self._processes, self._ends = [], []


def _serve(rank: int, meeting: str, end: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
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
