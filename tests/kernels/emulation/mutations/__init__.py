"""Planted faults: each is one edit of the device code or of its tables that must be noticed."""

from __future__ import annotations

from kernels.emulation.mutations import (
    control,
    indices,
    ordering,
    protocol,
    shards,
    statistics,
    tables,
    updates,
)
from kernels.emulation.mutations.mutation import Mutation

__all__ = ["MUTATIONS", "SAMPLE", "Mutation"]

_KINDS = (indices, ordering, protocol, updates, tables, control, shards, statistics)
MUTATIONS = tuple(mutation for kind in _KINDS for mutation in kind.MUTATIONS)
# One of each kind, for those who have no time for all.
SAMPLE = tuple(kind.MUTATIONS[0] for kind in _KINDS)
