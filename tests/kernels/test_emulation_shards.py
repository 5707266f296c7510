"""What the CUDA step refuses of tensors that other processes have parts of.

How it steps them: the cases of ``emulation/cases.h`` that have parts.
"""

import pytest
import torch
from torch.nn import Parameter

import adamp_fused
from adamp_fused._methods import AdamP
from adamp_fused.backends.protocol import Shard, Slot
from adamp_fused.backends.registry import BACKENDS


@pytest.mark.skipif("emulated" not in BACKENDS, reason="there is a GPU")
def test_plan_that_clips_has_whole_tensors() -> None:
    """The norm that it finds is of what is here."""
    backend = BACKENDS["emulated"]
    if reason := backend.unavailable(torch.device("cpu"), False):
        pytest.skip(reason)
    param = Parameter(torch.ones(2, 3))
    param.grad = torch.ones(2, 3)
    optimizer = adamp_fused.FusedAdamP([param], backend="reference")
    optimizer.step()
    group, state = optimizer.param_groups[0], optimizer.state[param]
    shard = Shard(torch.zeros(6, dtype=torch.float64), None, row_length=3, numel=12)
    slot = Slot(param, param.grad, state, group, 0, owner=param, shard=shard)
    with pytest.raises(ValueError, match="elsewhere"):
        backend.plan(AdamP, [slot], [group], {param: state}, clips=True)
    backend.plan(AdamP, [slot], [group], {param: state})
