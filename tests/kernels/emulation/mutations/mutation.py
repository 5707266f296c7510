"""What a planted fault is."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One edit.

    Attributes:
        name: what it breaks.
        file: in csrc.
        old: the text it replaces; must occur once. Any white space matches any other.
        new: what takes its place.
        all_types: False where float32 plans show it, which compile and run faster.
    """

    name: str
    file: str
    old: str
    new: str
    all_types: bool = False

    def apply(self, text: str) -> str:
        """Return the edited text."""
        pattern = r"\s+".join(re.escape(word) for word in self.old.split())
        found = re.findall(pattern, text)
        assert len(found) == 1, f"{self.name}: {len(found)} places in {self.file} match"
        return re.sub(pattern, lambda _: self.new, text)
