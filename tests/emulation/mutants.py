"""Mutants: small mechanical edits of the device code, of what it includes and of its tables.

Where ``mutations.py`` holds the faults that somebody thought of, this draws some that nobody did::

    cd tests && python -m emulation.mutants --count 60 --seed 1

Each line of code is edited in every way that an operator knows; a seed draws some of them, and the
emulation judges each. Exit status 1 if one survives that ``equivalents.py`` does not know.
"""

from __future__ import annotations

import argparse
import difflib
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emulation import build
from emulation.equivalents import reason
from emulation.mutations import verdict

FILES = (
    "cuda/kernel.cuh",
    "cuda/span_work.cuh",
    "cuda/kernel_args.h",
    "cuda/executor.cpp",
    "formulas.h",
    "early.h",
    "work_plan.h",
)


def _swaps(*pairs: str) -> Iterator[tuple[str, str]]:
    """Operators that put one word in another's place, and the other way round."""
    for pair in pairs:
        one, other = pair.split()
        yield rf"\b{one}\b", other
        yield rf"\b{other}\b", one


# What is replaced where, by what. Spaces around an operator tell it from a template's brackets.
OPERATORS = (
    # Comparisons and conditions.
    *((rf" {old} ", f" {new} ") for old, new in ("< <=".split(), "<= <".split(), "> >=".split())),
    *((rf" {old} ", f" {new} ") for old, new in (">= >".split(), "== !=".split(), "!= ==".split())),
    (r" < ", " > "),
    (r" && ", " || "),
    (r" \|\| ", " && "),
    (r"\b(if|while) \((.+)\)( [^)]*)?$", r"\1 (true)\3"),
    (r"\b(if|while) \((.+)\)( [^)]*)?$", r"\1 (false)\3"),
    (r"= ([^?=;]+) \?", r"= !(\1) ?"),
    (r"!(?=[\w(])", ""),
    # Arithmetic.
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" \* ", " / "),
    (r" / ", " * "),
    (r" % ", " / "),
    (r" [-+*/%] [\w.]+(\([^()]*\))?(?=[ ;),\]])", ""),
    (r"([+-])= ", "= "),
    (r"\+= ", "-= "),
    (r"\*= ", "/= "),
    (r"\b\d+\b(?![.'])", lambda found: str(int(found[0]) + 1)),
    (r"\b[1-9]\d*\b(?![.'])", lambda found: str(int(found[0]) - 1)),
    (r"\bint64_t\b", "int32_t"),
    (r"\bS\(", "float("),
    (r"-(?=[a-z])", ""),
    # A statement, an argument or a factor that is missing.
    (r"^(\s*)(?!return|using|break|const|switch)[\w:.&*>\[\]-]+( [-+*/]?= .*|\(.*|\+\+);$", r"\1;"),
    (r"\b(if|while) \(.+?\) (?=[\w:.]+[ (.].*;)", ""),
    (r"\bsync_block\(\);", ";"),
    (r"\bcontinue;", ";"),
    # Order of memory.
    (r"\bfetch_add_acq_rel\b", "fetch_add_relaxed"),
    (r"\bstore_release\(([^,]+), (.+)\);", r"store_cross_block(\1, uint32_t{\2});"),
    (r"\bload_acquire\b", "load_cross_block"),
    (r"\bthread_index\(\) == 0\b", "thread_index() == 1"),
    (r"\bkBlockSize\b", "kWarpSize"),
    (r"\bkWarpSize\b", "kBlockSize"),
    (r"\bkWarpSize\b", "(kWarpSize / 2)"),
    # One thing taken for another.
    *_swaps("pp gg", "pg pu", "pp pg", "gg pu", "rows cols", "row col", "first count"),
    *_swaps("row_begin row_end", "col_begin col_end", "first_item item_count", "slots records"),
    *_swaps("shrink radial", "next previous", "active undo", "decay decay_projected"),
    *_swaps("decay1 decay2", "gain1 gain2", "delta eps", "norm_p norm_g", "h.eps h.delta"),
    *_swaps("moment1 moment2", "min max", "head count", "arrived finished", "failed pending"),
    *_swaps("step_size shrink", "inv_bias_correction1 inv_root_bias_correction2", "true false"),
    *_swaps("kNone kChannel", "kChannel kLayer", "kLayer kAuto", "kAllRows kChannelRows"),
    *_swaps("kSettled kToFinish", "kAccumulate kFinish", "kFloat32 kFloat64", "p g", "u g", "m v"),
    *_swaps("lr inv_bias_correction1", "wd_ratio delta", "weight_decay wd_ratio", "before raw"),
    *_swaps("nesterov project_buffer", "maximize nesterov", "size count", "index row", "at i"),
    *_swaps("float double", "span.p span.g", "row_end cols", "lane row", "warp lane", "first row"),
)


@dataclass(frozen=True)
class Mutant:
    """One line with one edit."""

    file: str
    line: int  # from 1
    before: str
    after: str

    def __str__(self) -> str:
        return (
            f"csrc/{self.file}:{self.line}\n  - {self.before.strip()}\n  + {self.after.strip()}"
        )

    def text(self) -> str:
        """The file with the edit."""
        lines = (build.ROOT / "csrc" / self.file).read_text().splitlines(keepends=True)
        assert lines[self.line - 1].rstrip("\n") == self.before
        lines[self.line - 1] = self.after + "\n"
        return "".join(lines)


def mutants() -> list[Mutant]:
    """All of them, in the order of the lines."""
    found: dict[Mutant, None] = {}
    for file in FILES:
        lines = (build.ROOT / "csrc" / file).read_text().splitlines()
        code = False
        for number, line in enumerate(lines, 1):
            code = code or line.startswith("namespace adamp")
            if not code or line.lstrip().startswith(("//", "#", "template", "using", "static_assert")):
                continue
            bare, comment, rest = line.partition("  //")
            for pattern, new in OPERATORS:
                for match in re.finditer(pattern, bare):
                    edited = bare[: match.start()] + re.sub(pattern, new, match[0])
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
    survivors = killed = 0
    for mutant in wanted[: options.count]:
        said = reason(mutant.file, mutant.before, mutant.after) or judge(mutant)
        if not said:
            print(f"SURVIVES {mutant}", flush=True)
        survivors += not said
    return survivors > 0


if __name__ == "__main__":
    sys.exit(main())
