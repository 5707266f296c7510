"""AdamP and SGDP in one fused launch: ``from adamp_fused import FusedAdamP, FusedSGDP``."""

from adamp_fused.adamp import FusedAdamP
from adamp_fused.sgdp import FusedSGDP

__all__ = ["FusedAdamP", "FusedSGDP"]
__version__ = "0.1.0"
