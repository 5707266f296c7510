"""Planted faults: each is one edit of the device code or of its tables that must be noticed."""

from __future__ import annotations

from kernels.emulation.mutations import indices, ordering, protocol, tables, updates
from kernels.emulation.mutations.mutation import Mutation

__all__ = ["MUTATIONS", "Mutation"]

MUTATIONS = (
    *indices.MUTATIONS,
    *ordering.MUTATIONS,
    *protocol.MUTATIONS,
    *updates.MUTATIONS,
    *tables.MUTATIONS,
)
