"""What the optimizers do to each layer: records of a run, pictures of them, and what to expect."""

from adamp_fused.stats.invariance import explain
from adamp_fused.stats.records import Run, read
from adamp_fused.stats.report import Report, Weight
from adamp_fused.stats.writer import StatsWriter

__all__ = ["Report", "Run", "StatsWriter", "Weight", "explain", "read"]
