"""The variants of the CUDA step that are worth a clock: a few edited lines each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

ARGS, DEVICE, DISPATCH = "csrc/cuda/kernel_args.h", "csrc/cuda/device.cuh", "csrc/cuda/dispatch.h"
EXECUTOR = "csrc/cuda/executor.cpp"


@dataclasses.dataclass(frozen=True)
class Edit:
    """``old``, which stands exactly once in ``file``, becomes ``new``."""

    file: str
    old: str
    new: str


@dataclasses.dataclass(frozen=True)
class Variant:
    """A name, the question it answers, and the edits that make it."""

    name: str
    why: str
    edits: tuple[Edit, ...] = ()


# Six kernels take a minute to compile, the two for float32 alone ten seconds.
FLOAT32_ALONE = tuple(
    Edit(
        DISPATCH,
        f"integral_constant<TypeSet, TypeSet::{types}>()",
        "integral_constant<TypeSet, TypeSet::kFloat32>()",
    )
    for types in ("kNarrow", "kAll")
)


def _threads(count: int) -> Edit:
    return Edit(ARGS, "constexpr int kBlockSize = 320;", f"constexpr int kBlockSize = {count};")


def _blocks(count: int) -> Edit:
    return Edit(ARGS, "TypeSet::kAll ? 1 : 2;", f"TypeSet::kAll ? 1 : {count};")


def _tile(elements: int) -> Edit:
    return Edit(ARGS, "DType::kFloat64 ? 2560 : 5120;", f"DType::kFloat64 ? 2560 : {elements};")


def _lag(residents: str) -> Edit:
    return Edit(
        EXECUTOR, "Tables tables(infos, 2 * resident_)", f"Tables tables(infos, {residents})"
    )


def _finish(items: int) -> Edit:
    old = "constexpr int kItemsPerFinish = 16;"
    return Edit(ARGS, old, f"constexpr int kItemsPerFinish = {items};")


NO_HINTS = (
    Edit(DEVICE, "__ldcs(static_cast<const uint4*>(at))", "*static_cast<const uint4*>(at)"),
    Edit(
        DEVICE,
        "__stcs(static_cast<uint4*>(at), make_uint4(x.word[0], x.word[1], x.word[2], x.word[3]))",
        "*static_cast<Wide*>(at) = x",
    ),
)

AS_IS = Variant("as it is", "320 threads, 2 blocks a processor, items of 5,120 elements")

VARIANTS: tuple[Variant, ...] = (
    AS_IS,
    Variant(
        "256 threads x 3",
        "a third block fills the memory's queue while two add up their sums",
        (_threads(256), _blocks(3), _tile(4096)),
    ),
    Variant(
        "256 threads x 3, 5,120",
        "the same with items as long as now: a 512-channel 3x3 row still fits",
        (_threads(256), _blocks(3)),
    ),
    Variant(
        "384 threads x 2",
        "more loads in flight, at 80 registers",
        (_threads(384), _tile(6144)),
    ),
    Variant(
        "512 threads x 2",
        "all 64 registers a thread allow: spills or not, by the table",
        (_threads(512), _tile(8192)),
    ),
    Variant(
        "640 threads x 1",
        "one large block: fewer tickets, but nothing fills its pauses",
        (_threads(640), _blocks(1), _tile(10240)),
    ),
    Variant(
        "finish after 1.0 resident",
        "a second visit sooner, while p, m and v are still in the second-level cache",
        (_lag("resident_"),),
    ),
    Variant(
        "finish after 1.5 resident", "between that and what is there", (_lag("resident_ * 3 / 2"),)
    ),
    Variant("4 items a finish ticket", "more blocks share a second visit", (_finish(4),)),
    Variant("64 items a finish ticket", "fewer looks at a flag that says settled", (_finish(64),)),
    Variant(
        "no cache hints", "what evict-first does for streams, and against second visits", NO_HINTS
    ),
)


def apply(edits: tuple[Edit, ...], root: Path) -> None:
    """Make the edits in the tree at ``root``.

    Raises:
        ValueError: a text is not there exactly once; the sources have changed.
    """
    for edit in edits:
        path = root / edit.file
        text = path.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise ValueError(
                f"{edit.old!r} is {text.count(edit.old)} times in {edit.file}, and must be there "
                "once: bring bench/tune/variants.py up to date"
            )
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
