"""An outcome that was mispredicted costs a fix-up pass, and hardly any accuracy."""

import torch

from conftest import Kind
from parity.cases import DECAY, THIN, shapes
from parity.gradients import generator, noise, reachable, scripted
from parity.oracle import CHANNEL, LAYER, NONE
from parity.pairs import weights
from parity.targets import Target

# Every change of outcome, and hence every kind of update that has to be rolled back.
FLIPS = (NONE, CHANNEL, LAYER, CHANNEL, NONE, LAYER, NONE)
MOST_ULPS = 4


def test_taking_back_costs_few_ulps(backend: Target, kind: Kind) -> None:
    """After each change a step comes to what one comes to that did nothing before it decided.

    Units in the last place of the largest of old weight, new weight and update: what is rolled back
    may have been many times the weight.
    """
    large = (*shapes("several_blocks", "longer_than_blocks"), *THIN)
    for shape in shapes("odd") if backend.slow else large:
        speculating, patient = (weights(shape, device=backend.device) for _ in range(2))
        if shape in THIN:
            # No row much smaller than its update, whose direction the last place decides.
            speculating.data.copy_(noise(speculating.shape, generator(shape.seed)))
        optimizers = [kind.make([p], backend, **DECAY) for p in (speculating, patient)]
        state, other = (
            optimizer.state[p]
            for optimizer, p in zip(optimizers, (speculating, patient), strict=True)
        )
        rng, reached = generator(3), reachable(shape.shape)
        for number, outcome in enumerate(FLIPS):
            before = speculating.detach().double().cpu()
            patient.data.copy_(speculating.data)
            for key, value in state.items():
                other[key].copy_(value)
            if number:
                # After a step layer-wise nothing is predicted.
                other["view"].fill_(LAYER)
            speculating.grad = scripted(before, outcome, rng).to(speculating)
            patient.grad = speculating.grad.clone()
            for optimizer in optimizers:
                optimizer.step()
            assert state["view"].item() == (outcome if outcome in reached else NONE)
            new, want = (p.detach().double().cpu() for p in (speculating, patient))
            size = torch.stack((before, want, before - want)).abs().amax(0).float()
            ulp = torch.nextafter(size, torch.tensor(torch.inf)).double() - size.double()
            worst = ((new - want).abs() / ulp).max().item()
            assert worst <= MOST_ULPS, f"{shape.name}, step {number + 1}: {worst:.2f} ulps"
