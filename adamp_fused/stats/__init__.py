"""What the optimizers do to each layer: records of a run, pictures of them, and what to expect."""

from adamp_fused.stats.records import Run, read
from adamp_fused.stats.writer import StatsWriter

__all__ = ["Run", "StatsWriter", "read"]
