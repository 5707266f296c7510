"""Launches, copies and host waits of one step, as torch's profiler sees them; a JSON line each."""

from __future__ import annotations

import argparse
import dataclasses
import json

import torch

from bench.lib.gradients import Gradients, make_weights
from bench.lib.implementations import implementations
from bench.lib.runners import Runner
from bench.lib.timing import profile_step
from bench.lib.workloads import WORKLOADS
from bench.tools.gpu_check.process import Ended
from bench.tools.gpu_check.verdicts import FAIL, NOT_AVAILABLE, PASS, Verdict, failed

# Step values that travel in the launch itself, and (1,000 tensors) values that need a copy.
LISTS = ("resnet50", "gpt2-124m", "1000x16x16")
COMPARED = ("fused-*-cuda", "fused-*-triton", "torch-adamw-fused", "torch-sgd-fused")


def warmed_up(workload: str, key: str, device: torch.device) -> Runner:
    """One implementation on one parameter list, warmed up."""
    (implementation,) = (i for i in implementations(device, [key])[0] if i.key == key)
    chosen = WORKLOADS[workload]()
    weights = make_weights(chosen, device, torch.float32)
    ready = Runner(implementation, weights)
    ready.set_gradients(Gradients(chosen, weights, "natural").tensors)
    for _ in range(2):
        ready.optimizer.step()
    return ready


def main() -> None:
    """Print what every compared implementation does on each list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="+", choices=WORKLOADS)
    parser.add_argument("--device", default="cuda", type=torch.device)
    options = parser.parse_args()
    device: torch.device = options.device
    patterns = list(COMPARED) if device.type == "cuda" else ["fused-*-cpu"]
    for workload in options.workloads:
        for implementation in implementations(device, patterns)[0]:
            kernels = profile_step(
                warmed_up(workload, implementation.key, device).optimizer.step, device
            )
            line = {
                "workload": workload,
                "implementation": implementation.key,
                "label": implementation.label,
                "ours": implementation.ours,
                "kernels": kernels and dataclasses.asdict(kernels),
            }
            print(json.dumps(line), flush=True)


def judge(ended: Ended) -> Verdict:
    """Each step of ours is one launch, and the host waits for nothing."""
    badly = failed(ended)
    if badly is not None:
        return badly
    lines = [json.loads(line) for line in ended.output.splitlines() if line.startswith("{")]
    if not lines or any(line["kernels"] is None for line in lines):
        return Verdict(NOT_AVAILABLE, "the profiler sees no kernels here")
    figures: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        kernels = line["kernels"]
        figures.setdefault(line["label"], []).append(
            (kernels["launches"], kernels["synchronisations"])
        )
    ours = [f for line in lines if line["ours"] for f in figures[line["label"]]]
    figure = "; ".join(
        f"{label} {max(n for n, _ in each):g}, {max(w for _, w in each):g}"
        for label, each in figures.items()
    )
    well = bool(ours) and all(launches == 1 and waits == 0 for launches, waits in ours)
    return Verdict(PASS if well else FAIL, figure)


if __name__ == "__main__":
    main()
