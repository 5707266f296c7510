"""What the extension was built for, read from its file without loading it.

The extension reads torch's objects by their layout, so one that was built for another torch may
crash the process as soon as it is loaded or first called. The build leaves a line of text in the
module itself. It cannot be older than the module, and an installation cannot lose it.

What has to agree between the build and the running process, and why:

====================================  ==========================================================
torch's minor version, 2.12 and 2.13  yes: C++ classes change between minor versions
torch's patch version, 2.13.0, .1     no: patch releases keep the classes as they are
a development version or candidate    the whole version: classes change from one day to the next
the local part, +cpu and +cu130       no: the classes do not depend on CUDA, what else depends
                                      on it is in the next rows
CUDA kernels, and torch without CUDA  yes: the module needs libraries that are not there
CUDA's major version                  for CUDA kernels only: the name of the runtime library, which
                                      torch and the module must share, contains it
CUDA's minor version                  no: the runtime is compatible within a major version
the ABI of C++'s std::string          never differs: torch 2.11 to 2.13 all have the new one
Python's version and build            part of the file's name: Python finds no other file
====================================  ==========================================================

A module without the line is older than the line, so that nobody knows: it is refused too. ``setup``
reads this file as well, before the package can be imported; it imports nothing but Python's own.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import NamedTuple

MARK = "adamp_fused was built for: "


class BuiltFor(NamedTuple):
    """One build, or what a build would be now.

    torch: the whole version. cuda: ``torch.version.cuda`` where the build has CUDA kernels, else
    None. debug: whether the kernels check themselves.
    """

    torch: str
    cuda: str | None
    debug: bool = False

    def line(self) -> str:
        """The text that the module contains."""
        debug = "yes" if self.debug else "no"
        return f"{MARK}torch {self.torch}, CUDA {self.cuda or 'none'}, debug {debug};"

    def why_not(self, torch: str, cuda: str | None) -> str | None:
        """Why it cannot run with a torch of this version and CUDA version, or None."""
        if _interface(self.torch) != _interface(torch):
            return f"they were built for torch {self.torch}, and this is torch {torch}"
        if self.cuda is not None and cuda is None:
            return (
                f"they were built for a torch with CUDA {self.cuda}, and this torch, {torch}, has "
                "no CUDA"
            )
        if self.cuda is not None and cuda is not None and _major(self.cuda) != _major(cuda):
            return f"they were built for CUDA {self.cuda}, and this torch has CUDA {cuda}"
        return None


def read(module: Path) -> BuiltFor | None:
    """The line in a module's file; None where there is none."""
    if module.stat().st_size == 0:
        return None  # which cannot be mapped
    with module.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(MARK.encode())
        line = data[at : data.find(b";", at)].decode(errors="replace") if at >= 0 else ""
    found = re.fullmatch(re.escape(MARK) + r"torch (\S+), CUDA (\S+), debug (yes|no)", line)
    if found is None:
        return None
    return BuiltFor(found[1], None if found[2] == "none" else found[2], found[3] == "yes")


def _interface(version: str) -> str:
    """The part of torch's version that C++ classes hang on: see the table."""
    release = re.fullmatch(r"(\d+\.\d+)(\.\d+)*(\+.*)?", version)
    return release[1] if release else version


def _major(version: str) -> str:
    return version.split(".")[0]
