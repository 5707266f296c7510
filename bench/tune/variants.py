"""The variants of the CUDA step that are worth a clock: a few edited lines each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

ARGS, DEVICE, DISPATCH = "csrc/cuda/kernel_args.h", "csrc/cuda/device.cuh", "csrc/cuda/dispatch.h"
EXECUTOR, FETCH = "csrc/cuda/executor.cpp", "csrc/cuda/fetch.cuh"


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


def _workers(count: int) -> Edit:
    return Edit(ARGS, "TypeSet::kFloat32 ? 384 : 288;", f"TypeSet::kFloat32 ? {count} : {count};")


def _blocks(count: int) -> Edit:
    return Edit(ARGS, "kMostBlocksPerSM = 2;", f"kMostBlocksPerSM = {count};")


def _tile(elements: int) -> Edit:
    return Edit(ARGS, "DType::kFloat64 ? 3072 : 6144;", f"DType::kFloat64 ? 3072 : {elements};")


def _lag(residents: str) -> Edit:
    return Edit(EXECUTOR, "lag = 3 * resident;", f"lag = {residents};")


def _finish(items: int) -> Edit:
    old = "constexpr int64_t kItemsPerFinish = 4;"
    return Edit(ARGS, old, f"constexpr int64_t kItemsPerFinish = {items};")


NO_HINTS = (
    Edit(DEVICE, "__ldcs(static_cast<const uint4*>(at))", "*static_cast<const uint4*>(at)"),
    Edit(
        DEVICE,
        "__stcs(static_cast<uint4*>(at), make_uint4(x.word[0], x.word[1], x.word[2], x.word[3]))",
        "*static_cast<Wide*>(at) = x",
    ),
)

ASK = "prefetch(static_cast<const unsigned char*>(array) + offset, asked,"
ASKED = "kMethod == Method::kAdamP ? bytes / 2 : bytes"

AS_IS = Variant("as it is", "384 workers, 2 blocks a processor, items of 6,144 elements")

VARIANTS: tuple[Variant, ...] = (
    AS_IS,
    Variant(
        "nothing asked for ahead",
        "whether bringing the next item to the second-level cache is worth it",
        (Edit(FETCH, ASK, f"if (asked < 0) {ASK}"),),
    ),
    Variant(
        "half asked for ahead",
        "SGDP's by half, too: whether all next items are too much for that cache",
        (Edit(FETCH, ASKED, "bytes / 2"),),
    ),
    Variant(
        "all asked for ahead",
        "AdamP's arrays whole, as SGDP's",
        (Edit(FETCH, ASKED, "bytes"),),
    ),
    Variant(
        "asked for line by line",
        "the instruction that compute capability 8.0 has, too",
        (Edit(DEVICE, "#if __CUDA_ARCH__ >= 900", "#if __CUDA_ARCH__ >= 9999"),),
    ),
    Variant(
        "288 workers x 2",
        "as until November 2026: items of 4,608, one row of a 512-channel 3x3 convolution",
        (_workers(288), _tile(4608)),
    ),
    Variant(
        "352 workers x 2",
        "80 registers a thread for 72; the last turn of an item is a third full",
        (_workers(352),),
    ),
    Variant(
        "192 workers x 3",
        "a third block fills the memory's queue while two add up their sums",
        (_workers(192), _blocks(3), _tile(4608)),
    ),
    Variant(
        "480 workers x 2",
        "all 64 registers a thread allow: spills or not, by the table",
        (_workers(480), _tile(7680)),
    ),
    Variant(
        "608 workers x 1",
        "one large block: fewer tickets, but nothing fills its pauses",
        (_workers(608), _blocks(1), _tile(9728)),
    ),
    Variant(
        "finish after 1.0 resident",
        "a second visit sooner, while p, m and v are still in the second-level cache",
        (_lag("resident"),),
    ),
    Variant(
        "finish after 2.0 resident",
        "sooner, but the tensor may be undecided when its ticket is drawn",
        (_lag("2 * resident"),),
    ),
    Variant(
        "finish after 4.0 resident",
        "later: fewer blocks wait for a decision",
        (_lag("4 * resident"),),
    ),
    Variant("1 item a finish ticket", "most blocks share a second visit", (_finish(1),)),
    Variant("2 items a finish ticket", "more of them do", (_finish(2),)),
    Variant("8 items a finish ticket", "fewer looks at a flag that says settled", (_finish(8),)),
    Variant("16 items a finish ticket", "fewer still", (_finish(16),)),
    Variant(
        "finish tickets in a row",
        "whether looks at a flag cost less between work than at a time",
        (Edit(EXECUTOR, "if (!to_finish_.empty() &&", "while (!to_finish_.empty() &&"),),
    ),
    Variant(
        "workers look at settled tickets",
        "what it saves them that the warp that fetches does it",
        (Edit(FETCH, "first_lane && load_acquire(", "false && load_acquire("),),
    ),
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
