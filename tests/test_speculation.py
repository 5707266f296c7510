"""An outcome that was foreseen wrongly costs a second visit, and hardly any accuracy."""

import torch

from cases import DECAY, shapes
from conftest import Kind
from gradients import generator, scripted
from oracle import CHANNEL, LAYER, NONE
from parity import ORACLES, weights
from targets import Target

# Every change of outcome, and hence every kind of update to take back.
FLIPS = (NONE, CHANNEL, LAYER, CHANNEL, NONE, LAYER, NONE)
MOST_ULPS = 4


def test_taking_back_costs_few_ulps(backend: Target, kind: Kind) -> None:
    """After each change the weights are within 4 ulps of one exact step from where they were.

    Of the larger of old and new weight, since an update may leave next to nothing; and beside what
    the update itself is rounded by, which no change of outcome is to blame for.
    """
    names = ("odd",) if backend.slow else ("several_blocks", "longer_than_blocks")
    options = kind.options | DECAY | {"lr": 1e-3}
    for shape in shapes(*names):
        p = weights(shape, device=backend.device)
        optimizer, state, rng = kind.make([p], backend, **options), {}, generator(3)
        for number, outcome in enumerate(FLIPS):
            before = p.detach().double().cpu()
            p.grad = scripted(before, outcome, rng).to(p)
            step = ORACLES[kind.name](before, p.grad.cpu(), state, **options)
            assert step.view == outcome
            state = step.state
            optimizer.step()
            size = torch.maximum(before.abs(), step.p.abs()).float()
            ulp = torch.nextafter(size, torch.tensor(torch.inf)).double() - size.double()
            update = (step.p - before).abs()
            off = ((p.detach().double().cpu() - step.p).abs() - 1e-5 * update) / ulp
            worst = off.max().item()
            assert worst <= MOST_ULPS, f"{shape.name}, step {number + 1}: {worst:.2f} ulps"
