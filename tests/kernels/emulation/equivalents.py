"""Mutants that no test can notice, each with its reason."""

from __future__ import annotations

from kernels.emulation.sources import (
    ARGS,
    FETCH,
    HOST,
    KERNEL,
    LOOPS,
    PLAN,
    SPAN,
    TENSOR,
    THIN,
    TILE,
)

_HINT = "a hint, what leaves the cache first"
_SIZE = "any size of an item that shared memory holds is right"
_ORDER = "work may be drawn in another order, and in other portions"
_MEMORY = "more memory than needed, or as much"
_ONE = "any one thread may do it, all of them having met before"
_BANKS = "other banks of shared memory, which have a test of their own"
_ALIKE = "the same value for all arguments there are"
_ANY = "any value but zero means the same"
_LOOK = "the workers look at what is not ended here"
_AHEAD = "what is asked for ahead, which has a test of its own"

# (file, part of the line, part of the edited line, reason)
_KNOWN = (
    (LOOPS, "load<kCount, true>", "load<kCount, false>", _HINT),
    (LOOPS, "load<kCount, !kRevisit>", "load<kCount, kRevisit>", _HINT),
    (LOOPS, "store<kCount, true>", "store<kCount, false>", _HINT),
    (LOOPS, "store<kCount, !kRevisit>", "store<kCount, kRevisit>", _HINT),
    (SPAN, "const Wide wide = kStreaming ?", "!(kStreaming) ?", _HINT),
    (TENSOR, "early == Early::kChannelRows || one_item()) {", "} else if (", _HINT),
    (TENSOR, "sweep<true, false, false>", "sweep<true, false, true>", _HINT),
    (TENSOR, "sweep<true, false, false>", "sweep<true, true, false>", "a tile nobody reads"),
    (TENSOR, "sweep<true, true, false>", "sweep<true, true, true>", _HINT),
    (TENSOR, "sweep<false, true, false>", "sweep<false, true, true>", _HINT),
    (TENSOR, "sweep<false, true, true>", "sweep<false, true, false>", _HINT),
    (TENSOR, "update.active = 1;", "update.active = 2;", _ANY),
    (SPAN, "(static_cast<float>(i) + 0.5f) * rows_per", "", "rows, which have a test of their own"),
    (KERNEL, "count_finished(decision(), given.tensor)", "thread_index() == 1", _ONE),
    (TILE, "bool kTwo", "", _BANKS),
    (TILE, "return kTwo ?", "% 2 / kPerWide", _BANKS),
    (TILE, "return kTwo ?", "% 1 * kPerWide", _BANKS),
    (TILE, "return kTwo ?", "% 3 * kPerWide", _BANKS),
    (TILE, "return kTwo ?", "place * (8", _BANKS),
    (THIN, "return cols % 2 == 0 ?", "", _BANKS),
    (ARGS, "kMaxThinCols = 16;", "", _SIZE),
    (ARGS, "tensor.cols <= kMaxThinCols &&", "", _SIZE),
    (HOST, "values.size() * sizeof(Value)) + 1", "sizeof(Value)) + 2", _MEMORY),
    (HOST, "values.size() * sizeof(Value)) + 1", "sizeof(Value))));", "only what is empty"),
    (SPAN, "(16 - p % 16) % 16", "(16 - p % 16) % 15", _ALIKE),
    (SPAN, "before < span.count ?", "before <= span.count ?", _ALIKE),
    (ARGS, "kItemsPerFinish = 4;", "kItemsPerFinish =", _ORDER),
    (ARGS, "int kMostBlocksPerSM =", "", "how many blocks run at a time"),
    (ARGS, "return types == TypeSet::kAll ? 1", "", "how many blocks run at a time"),
    (ARGS, "int tile_elements(DType dtype)", "", _SIZE),
    (ARGS, "int max_rows(DType dtype)", "", _SIZE),
    (ARGS, "kInlineCapacity = 8064;", "kInlineCapacity = 80", _ORDER),
    (HOST, "const int64_t lag = 3 * resident;", "", _ORDER),
    (HOST, "{n_tickets() + lag, t, 0}", "t, 0}", _ORDER),
    (HOST, "to_finish_.front().not_before <= n_tickets()", "", _ORDER),
    (HOST, "std::max(kItemsPerFinish, (items + resident - 1) / resident)", "", _ORDER),
    (HOST, "tensors[a].item_count > tensors[b].item_count", "", _ORDER),
    (HOST, "if (!values.empty()) {", "if (true) {", "a copy of no bytes"),
    (HOST, "sizeof(Slot<float>))", "sizeof(Slot<double>) : sizeof(Slot<double>)", _MEMORY),
    (HOST, "(bytes + 15) / 16 * 16;", "(bytes + 14) / 16 * 16;", _MEMORY),
    (HOST, "(bytes + 15) / 16 * 16;", "(bytes + 15) / 15 * 16;", _MEMORY),
    (HOST, "(bytes + 15) / 16 * 16;", "(bytes + 16) / 16 * 16;", _MEMORY),
    (HOST, "tickets.size() > UINT32_MAX / 2", "", "no test has so many tickets"),
    (HOST, "more than 2^31 work items", "", "no test has so many tickets"),
    (HOST, "const int blocks =", "std::max", "how many blocks run at a time"),
    (HOST, "allocate(tables.scratch_bytes + 1)", "", _MEMORY),
    (HOST, "if (size <= kInlineCapacity)", "size < kInline", "either way is right"),
    (HOST, "for (size_t t = 0; t < order.size()", "t = 1;", _ALIKE),
    (HOST, "for (int64_t i = 0; i < tensors[t].item_count", "int32_t i", _ALIKE),
    (FETCH, "const bool settled =", "= accumulates &&", _LOOK),
    (FETCH, "if (settled) {", "if (false) {", _LOOK),
    (FETCH, "uint32_t word_ = 0;", "", "of lanes that have no word to put"),
    (FETCH, "View last = View::kNone;", "", "where none is kept, nothing is foreseen by it"),
    (FETCH, "const int64_t offset =", "", _AHEAD),
    (FETCH, "const int64_t size = size_of", "", _AHEAD),
    (PLAN, "tensor.rows * tensor.cols > 0", "tensor.rows * tensor.rows > 0", _ALIKE),
)


def reason(file: str, before: str, after: str) -> str:
    """Why nothing can notice this edit of a line, or "" if something should."""
    for known_file, old, new, why in _KNOWN:
        if file == known_file and old in before and new in after:
            return why
    return ""
