"""A small program for compute-sanitizer: every kind of tensor, both optimizers, a few steps.

``python -m kernels.small_plan LABEL``, with ``tests`` on the path, steps plans of one type and of
all types on the target of that label, through outcomes that change, and compares everything with
the oracle as the tests do.
"""

import sys
from collections.abc import Sequence

import torch

from conftest import KINDS
from parity.cases import DECAY, FEW, shapes
from parity.gradients import SCRIPT
from parity.pairs import pairs_of, run
from parity.targets import TARGETS, Target

# Several tiles, rows that span tiles, and rows without a multiple of anything.
LARGE = "longer_than_blocks"
PLANS = {
    "float32": {torch.float32: (*FEW, LARGE)},
    "all types": dict.fromkeys((torch.float32, torch.float64, torch.bfloat16, torch.float16), FEW),
}
SHORT_SCRIPT = SCRIPT[:5]


def step_plans(target: Target) -> int:
    """Step every plan of both optimizers; the number of steps that agreed with the oracle."""
    steps = 0
    for kind in KINDS:
        for plan in PLANS.values():
            # A large lr, so that a step is seen in weights of 16 bits.
            pairs = [
                pair
                for dtype, names in plan.items()
                for pair in pairs_of(kind, shapes(*names), dtype, target, lr=0.1, **DECAY)
            ]
            optimizer = kind.make([pair.p for pair in pairs], target, lr=0.1, **DECAY)
            run(optimizer, pairs, SHORT_SCRIPT)
            steps += len(SHORT_SCRIPT)
    return steps


def main(arguments: Sequence[str]) -> int:
    """Run on the target that is named; the exit status."""
    targets = {target.label: target for target in TARGETS}
    if len(arguments) != 1 or arguments[0] not in targets:
        print(f"name one target of {', '.join(targets)}")
        return 2
    target = targets[arguments[0]]
    reason = target.unavailable()
    if reason is not None:
        print(reason)
        return 1
    print(f"{step_plans(target)} steps agree with the oracle on {target.label}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
