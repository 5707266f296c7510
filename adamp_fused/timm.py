"""Both optimizers by name in timm: ``create_optimizer_v2(model, opt="fusedadamp")``.

Needs timm 1.0.12 or newer; nothing else in the package imports this module.
"""

from __future__ import annotations

import dataclasses

from timm.optim import list_optimizers
from timm.optim._optim_factory import default_registry

from adamp_fused.adamp import FusedAdamP
from adamp_fused.sgdp import FusedSGDP


def register() -> None:
    """Make ``fusedadamp`` and ``fusedsgdp`` known to timm; a second call changes nothing.

    They have the defaults that timm gives its own ``adamp`` and ``sgdp``, not those of the class:
    nesterov, momentum 0.9 for SGDP, ``wd_ratio=0.01`` for AdamP.
    """
    for name, cls in (("adamp", FusedAdamP), ("sgdp", FusedSGDP)):
        if f"fused{name}" not in list_optimizers():
            theirs = default_registry.get_optimizer_info(name)
            description = f"{theirs.description}, in one launch"
            default_registry.register(
                dataclasses.replace(
                    theirs, name=f"fused{name}", opt_class=cls, description=description
                )
            )
