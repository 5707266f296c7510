"""Planted faults in a listing: what a mistake in the real device header would come to."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A change of the listing.

    Attributes:
        name: as a test shows it.
        pattern: what is changed, wherever it stands.
        replacement: what it becomes.
        says: what the driver must say.
    """

    name: str
    pattern: str
    replacement: str
    says: str

    def apply(self, text: str) -> str:
        """The listing with the fault."""
        changed, count = re.subn(self.pattern, self.replacement, text)
        if count == 0:
            raise ValueError(f"the listing has nothing like {self.pattern}")
        return changed


FAULTS = (
    Fault("barrier_of_fewer", r"bar\.sync\s+1, %r\d+;", "bar.sync 1, 256;", "first 256 threads"),
    Fault("barrier_of_all", r"bar\.sync\s+1, %r\d+;", "bar.sync 0;", "WRONG"),
    Fault("relaxed_arrival", r"atom\.acq_rel\.gpu", "atom.relaxed.gpu", "race"),
    Fault("relaxed_release", r"st\.release\.gpu", "st.relaxed.gpu", "race"),
    Fault("relaxed_acquire", r"ld\.acquire\.gpu", "ld.relaxed.gpu", "race"),
    Fault("wide_store_elsewhere", r"(st\.shared\.v4\.u32 \[%r\d+)\]", r"\1+4]", "misaligned store"),
    Fault("narrow_prefetch", r"(cp\.async\.bulk\S+ \[%rd\d+)\]", r"\1+8]", "whole units"),
    Fault("other_parameter", r"(ld\.param\.u32\s+%r\d+, \[%rd\d+)\+-32\]", r"\1+-28]", "WRONG"),
)
