"""AdamP and SGDP in one fused launch: ``from adamp_fused import FusedAdamP, FusedSGDP``."""

from adamp_fused._version import __version__
from adamp_fused.adamp import FusedAdamP
from adamp_fused.sgdp import FusedSGDP

__all__ = ["FusedAdamP", "FusedSGDP", "__version__"]
