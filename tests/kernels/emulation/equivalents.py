"""Mutants that no test can notice, each with its reason."""

from __future__ import annotations

from kernels.emulation.sources import (
    ARGS,
    HOST,
    KERNEL,
    LOOPS,
    PRODUCER,
    SPAN,
    TENSOR,
    THIN,
    TILE,
    TILES,
)

_HINT = "a hint, what leaves the cache first"
_SIZE = "any size of a tile that shared memory holds is right"
_ORDER = "work may be drawn in another order, and in other portions"
_MEMORY = "more memory than needed, or as much"
_ONE = "any one thread may do it, all of them having met before"
_BANKS = "other banks of shared memory, which have a test of their own"
_ALIKE = "the same value for all arguments there are"
_ANY = "any value but zero means the same"
_LOOK = "the consumers look at what is not ended here"
_AHEAD = "what is prefetched, which has a test of its own"

# (file, part of the line, part of the edited line, reason)
_KNOWN = (
    (LOOPS, "load<kCount, true>", "load<kCount, false>", _HINT),
    (LOOPS, "load<kCount, !kSecondPass>", "load<kCount, kSecondPass>", _HINT),
    (LOOPS, "store<kCount, true>", "store<kCount, false>", _HINT),
    (LOOPS, "store<kCount, !kSecondPass>", "store<kCount, kSecondPass>", _HINT),
    (SPAN, "const Vector16 vector = kStreaming ?", "!(kStreaming) ?", _HINT),
    (TENSOR, "speculation == Speculation::kChannelRows || one_tile()) {", "} else if (", _HINT),
    (TENSOR, "sweep<true, false, false>", "sweep<true, false, true>", _HINT),
    (TENSOR, "sweep<true, false, false>", "sweep<true, true, false>", "a tile nobody reads"),
    (TENSOR, "sweep<true, true, false>", "sweep<true, true, true>", _HINT),
    (TENSOR, "sweep<false, true, false>", "sweep<false, true, true>", _HINT),
    (TENSOR, "sweep<false, true, true>", "sweep<false, true, false>", _HINT),
    (TENSOR, "update.active = 1;", "update.active = 2;", _ANY),
    (SPAN, "(static_cast<float>(i) + 0.5f) * rows_per", "", "rows, which have a test of their own"),
    (KERNEL, "count_fix_up(decision(), given.tensor)", "thread_index() == 1", _ONE),
    (TILE, "bool kTwo", "", _BANKS),
    (TILE, "return kTwo ?", "% 2 / kPerVector", _BANKS),
    (TILE, "return kTwo ?", "% 1 * kPerVector", _BANKS),
    (TILE, "return kTwo ?", "% 3 * kPerVector", _BANKS),
    (TILE, "return kTwo ?", "place * (8", _BANKS),
    (THIN, "return cols % 2 == 0 ?", "", _BANKS),
    (ARGS, "kMaxThinCols = ADAMP_MAX_THIN_COLS;", "", _SIZE),
    (ARGS, "tensor.cols <= kMaxThinCols &&", "", _SIZE),
    (HOST, "values.size() * sizeof(Value)) + 1", "sizeof(Value)) + 2", _MEMORY),
    (HOST, "values.size() * sizeof(Value)) + 1", "sizeof(Value))));", "only what is empty"),
    (SPAN, "(16 - p % 16) % 16", "(16 - p % 16) % 15", _ALIKE),
    (SPAN, "before < span.count ?", "before <= span.count ?", _ALIKE),
    (ARGS, "kTilesPerFixUp = ADAMP_TILES_PER_FIXUP;", "kTilesPerFixUp =", _ORDER),
    (ARGS, "int kMostBlocksPerSM =", "", "how many blocks run at a time"),
    (ARGS, "? ADAMP_TILE_ELEMENTS_FLOAT64 :", "", _SIZE),
    (ARGS, "? ADAMP_TILE_ROWS_FLOAT64 :", "", _SIZE),
    (HOST, "const int64_t lag = ADAMP_FIXUP_LAG * resident;", "", _ORDER),
    (HOST, "{n_tasks() + lag, t, 0}", "t, 0}", _ORDER),
    (HOST, "to_fix_up_.front().not_before <= n_tasks()", "", _ORDER),
    (HOST, "std::max(kTilesPerFixUp, (tiles + resident - 1) / resident)", "", _ORDER),
    (HOST, "tensors[a].tile_count > tensors[b].tile_count", "", _ORDER),
    (HOST, "if (!values.empty()) {", "if (true) {", "a copy of no bytes"),
    (HOST, "(bytes + 15) / 16 * 16;", "(bytes + 14) / 16 * 16;", _MEMORY),
    (HOST, "(bytes + 15) / 16 * 16;", "(bytes + 15) / 15 * 16;", _MEMORY),
    (HOST, "(bytes + 15) / 16 * 16;", "(bytes + 16) / 16 * 16;", _MEMORY),
    (HOST, "tasks.size() > UINT32_MAX / 2", "", "no test has so many tasks"),
    (HOST, "more than 2^31 work tiles", "", "no test has so many tasks"),
    (HOST, "const auto blocks =", "(end,", "how many blocks run at a time"),
    (HOST, "const auto blocks =", "(end + first,", "how many blocks run at a time"),
    (HOST, "if (tiles.empty()) tiles.emplace_back();", "    tiles.emplace_back();", _MEMORY),
    (HOST, "const bool may_fix_up =", "tile_count >= 0;", "a task without tiles"),
    (HOST, "allocate(tables.scratch_bytes + 1)", "", _MEMORY),
    (HOST, "if (size <= kInlineCapacity)", "size < kInline", "either way is right"),
    (HOST, "for (size_t t = 0; t < order.size()", "t = 1;", _ALIKE),
    (HOST, "for (int64_t i = 0; i < tensors[t].tile_count", "int32_t i", _ALIKE),
    (PRODUCER, "const bool resolved =", "= accumulates &&", _LOOK),
    (PRODUCER, "if (resolved) {", "if (false) {", _LOOK),
    (PRODUCER, "kEach = (kWords + kWarpSize - 1) /", "kWarpSize + 1) /", "more turns than words"),
    (PRODUCER, "kEach = (kWords + kWarpSize - 1) /", "kWarpSize) /", "more turns than words"),
    (PRODUCER, "kEach = (kWords + kWarpSize - 1) /", "kWarpSize - 0) /", "more turns than words"),
    (PRODUCER, "kEach = (kWords + kWarpSize - 1) /", "/ (kWarpSize / 2)", "more turns than words"),
    (PRODUCER, "View last = View::kNone;", "", "where none is kept, nothing is predicted by it"),
    (PRODUCER, "const int64_t offset =", "", _AHEAD),
    (PRODUCER, "const int64_t size = size_of", "", _AHEAD),
    (TILES, "tensor.rows * tensor.cols > 0", "tensor.rows * tensor.rows > 0", _ALIKE),
)


def reason(file: str, before: str, after: str) -> str:
    """Why nothing can notice this edit of a line, or "" if something should."""
    for known_file, old, new, why in _KNOWN:
        if file == known_file and old in before and new in after:
            return why
    return ""
