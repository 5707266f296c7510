"""Mutants: small mechanical edits of the device code, of what it includes and of its tables.

Where ``mutations`` holds the faults that somebody thought of, this draws some that nobody did::

    cd tests && python -m kernels.emulation.mutants --count 60 --seed 1

Each line of code is edited in every way that an operator knows; a seed draws some of them, and the
emulation judges each. Exit status 1 if one survives that ``equivalents.py`` does not know.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kernels.emulation import build
from kernels.emulation.equivalents import reason
from kernels.emulation.sources import DEVICE_CODE, TABLES
from kernels.emulation.verdicts import verdict


def _swapped(*pairs: str, before: str = r"\b") -> Iterator[tuple[str, str]]:
    """Operators that put one word in another's place, and the other way round."""
    for pair in pairs:
        one, other = pair.split()
        yield rf"{before}{one}\b", other
        yield rf"{before}{other}\b", one


# What is replaced where, by what. Spaces around an operator tell it from a template's brackets.
OPERATORS = (
    # Comparisons and conditions.
    (r" < ", " <= "),
    (r" <= ", " < "),
    (r" > ", " >= "),
    (r" >= ", " > "),
    (r" == ", " != "),
    (r" != ", " == "),
    (r" < ", " > "),
    (r" && ", " || "),
    (r" \|\| ", " && "),
    (r"\bif \((.+)\)( \{| [^)]*;)$", r"if (true)\2"),
    (r"\bif \((.+)\)( \{| [^)]*;)$", r"if (false)\2"),
    (r"= ([^?=;]+) \?", r"= !(\1) ?"),
    (r"!(?=[\w(])", ""),
    # Arithmetic.
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" \* (?=[\w(])", " / "),
    (r" / ", " * "),
    (r" [-+*/%] [\w.]+(\([^()]*\))?(?=[ ;),\]])", ""),
    (r"\+= ", "= "),
    (r"\b(?<!\.)\d+u?\b(?![.'])", lambda found: str(int(found[0].strip("u")) + 1)),
    (r"\b(?<!\.)[1-9]\d*\b(?![.'])", lambda found: str(int(found[0]) - 1)),
    (r"\bint64_t(?= \w+ =)", "int32_t"),
    (r"(?<=[ (])-(?=[a-z])", ""),
    # A statement, or a part of one, that is missing.
    (r"^ +(?!return|break|const|using)[\w:.&*>\[\]-]+( [-+*|&]?= .*|\(.*|\+\+);$", ";"),
    (r"\bif \(.+?\) (?=[\w:.]+[ (].*;)", ""),
    (r"\b(sync_block|sync_consumers)\(\);", ";"),
    (r"\bsync_consumers\(\);", "sync_block();"),
    (r"\bcontinue;", ";"),
    # The order of memory, and who does it.
    (r"\bfetch_add_acq_rel\b", "fetch_add_relaxed"),
    (r"\bstore_release\(([^,]+), (.+)\);", r"store_cross_block(\1, uint32_t{\2});"),
    (r"\bload_acquire\b", "load_cross_block"),
    (r"\bthread_index\(\) == 0\b", "thread_index() == 1"),
    (r"\bconsumer_count\(\)", "kWarpSize"),
    (r"\bkWarpSize\b", "(kWarpSize / 2)"),
    # One thing taken for another.
    (r"\bp \* g\b", "p * u"),
    (r"\bg \* g\b", "u * u"),
    *_swapped("pp gg", "pg pu", "pp pg", "rows cols", "row_begin row_end", "col_begin col_end"),
    *_swapped("first_tile tile_count", "slots records", "shrink radial", "next previous"),
    *_swapped(
        "active roll_back",
        "decay decay_projected",
        "beta1 beta2",
        "one_minus_beta1 one_minus_beta2",
    ),
    *_swapped("delta eps", "norm_p norm_g", "moment1 moment2", "min max", "failed pending"),
    *_swapped("inv_bias_correction1 inv_root_bias_correction2", "wd_ratio delta"),
    *_swapped("nesterov project_buffer", "maximize nesterov", "step_size shrink", "head count"),
    *_swapped("kNone kChannel", "kChannel kLayer", "kAllRows kChannelRows", before="(?<=View::)"),
    *_swapped("kNone kAllRows", "kAllRows kChannelRows", before="(?<=Speculation::)"),
    *_swapped("kChannel kLayer", "kAuto kOff", before="(?<=Projection::)"),
    *_swapped("kResolved kNeedsFixUp", "kAccumulate kFixUp", "true false", "float double"),
)

# Lines that only declare something, or concern the compiler.
_NO_CODE = re.compile(
    r"\s*(//|#|template|using|static_assert|struct|enum|class|ADAMP_FN|ADAMP_KERNEL"
    r"|(static )?ADAMP_DEVICE .*\{$|[\w:<>]+[ *&]+\w+(, \w+)*;)"
)


@dataclass(frozen=True)
class Mutant:
    """One line with one edit."""

    file: str
    line: int  # from 1
    before: str
    after: str

    def __str__(self) -> str:
        return f"csrc/{self.file}:{self.line}\n  - {self.before.strip()}\n  + {self.after.strip()}"

    def text(self) -> str:
        """The file with the edit."""
        lines = (build.ROOT / "csrc" / self.file).read_text().splitlines(keepends=True)
        assert lines[self.line - 1].rstrip("\n") == self.before
        lines[self.line - 1] = self.after + "\n"
        return "".join(lines)


def mutants() -> list[Mutant]:
    """All of them, in the order of the lines."""
    found: dict[Mutant, None] = {}
    for file in (*DEVICE_CODE, *TABLES):
        lines = (build.ROOT / "csrc" / file).read_text().splitlines()
        code = False
        for number, line in enumerate(lines, 1):
            code = code or line.startswith("namespace adamp")
            if not code or _NO_CODE.match(line):
                continue
            bare, comment, rest = line.partition("  //")
            for pattern, new in OPERATORS:
                for match in re.finditer(pattern, bare):
                    # Not by a second search: the match alone lacks what its pattern looks at.
                    put = new(match) if callable(new) else match.expand(new)
                    edited = bare[: match.start()] + put
                    edited += bare[match.end() :] + comment + rest
                    if edited != line:
                        found[Mutant(file, number, line, edited)] = None
    return list(found)


def judge(mutant: Mutant) -> str:
    """What the emulation says of it; "" where it survives."""
    folder = Path(tempfile.mkdtemp())
    try:
        for variant, schedules in ((build.RACES_FLOAT, 100), (build.RACES, 300)):
            said = verdict(mutant.file, mutant.text(), variant, folder, schedules)
            if said:
                return said
        return ""
    except RuntimeError as error:
        if "error:" not in str(error):
            raise
        return "does not compile"
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Judge a sample and print what survives."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=60, help="of mutants to draw")
    parser.add_argument("--seed", type=int, default=1, help="that draws them")
    parser.add_argument("--match", default="", help="only where file or line contain this")
    options = parser.parse_args()
    for variant in (build.RACES_FLOAT, build.RACES):
        build.driver(variant)  # what all have in common
    wanted = [m for m in mutants() if options.match in f"{m.file}:{m.before}"]
    random.Random(options.seed).shuffle(wanted)
    drawn = wanted[: options.count]
    survivors = 0
    for mutant in drawn:
        said = reason(mutant.file, mutant.before, mutant.after) or judge(mutant)
        if not said:
            print(f"SURVIVES {mutant}", flush=True)
        survivors += not said
    print(f"{len(drawn)} mutants, {survivors} not noticed")
    return survivors > 0


if __name__ == "__main__":
    sys.exit(main())
