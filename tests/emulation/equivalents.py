"""Mutants that no test can notice, each with its reason."""

from __future__ import annotations

KERNEL = "cuda/kernel.cuh"
SPANS = "cuda/span_work.cuh"
ARGS = "cuda/kernel_args.h"
HOST = "cuda/executor.cpp"
PLAN = "work_plan.h"

_HINT = "says which data leaves the cache first"
_ANY_SIZE = "any number of elements and rows makes a right item, within what shared memory holds"
_ORDER = "in which order work is drawn, and how much at a time, changes no value"
_ENOUGH = "more memory than needed"
_FEW = "items, tickets and tensors are fewer than 2^31"
_NOTHING = "what it leaves out, or does besides, does nothing there"
_AT_BOUND = "either side of the bound is right there"

# (file, text of the line, text of the edited line, reason); a text may be a part, "" any.
_KNOWN = ((SPANS, "(span.", "load<kCount, ", _HINT),)


def reason(file: str, before: str, after: str) -> str:
    """Why nothing can notice this edit of a line, or "" if something should."""
    for known_file, old, new, why in _KNOWN:
        if file == known_file and old in before and new in after:
            return why
    return ""
