"""One step of one optimizer between the profiler's start and stop, for ncu to look at."""

from __future__ import annotations

import argparse

import torch

from bench.tools.gpu_check.counts import warmed_up


def main() -> None:
    """Warm up, mark, step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload")
    parser.add_argument("implementation")
    parser.add_argument("--device", default="cuda", type=torch.device)
    options = parser.parse_args()
    ready = warmed_up(options.workload, options.implementation, options.device)
    if options.device.type != "cuda":
        ready.optimizer.step()
        return
    torch.cuda.synchronize()
    torch.cuda.profiler.start()  # type: ignore[no-untyped-call]
    ready.optimizer.step()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
