"""What the host makes for a launch: tables, tickets, scratch and values."""

from __future__ import annotations

from kernels.emulation.mutations.mutation import Mutation
from kernels.emulation.sources import HOST, PLAN

MUTATIONS = (
    Mutation(
        "waits for a higher ticket",
        HOST,
        "to_finish_.push_back({n_tickets() + lag, t, 0});",
        "tickets.insert(tickets.end() - tensors[t].item_count, {tensors[t].first_item,"
        " tensors[t].item_count, t, TicketKind::kFinish}), ++tensors[t].finish_tickets;",
    ),
    Mutation(
        "finish tickets miss the last items",
        HOST,
        "if (waiting.next_item == tensor.item_count)",
        "if (waiting.next_item + 1 >= tensor.item_count)",
    ),
    Mutation(
        "finish tickets counted twice",
        HOST,
        "++tensor.finish_tickets;",
        "tensor.finish_tickets += 2;",
    ),
    Mutation(
        "scratch of two tensors overlaps",
        HOST,
        "scratch_bytes += (bytes + 15) / 16 * 16;",
        "scratch_bytes += bytes / 32 * 16;",
    ),
    Mutation(
        "32-bit scratch size", HOST, "int64_t scratch_bytes = 0;", "int32_t scratch_bytes = 0;"
    ),
    Mutation("32-bit count of columns", PLAN, "for (int64_t col = 0;", "for (int32_t col = 0;"),
    Mutation(
        "second moment's alignment ignored",
        HOST,
        "(info.moment2 == nullptr || boundary(info.param) == boundary(info.moment2))",
        "true",
    ),
    Mutation("values of an earlier step", HOST, "args_.step_values = nullptr;", ""),
    Mutation("empty plan launched", HOST, "if (args_.n_tickets == 0) return;", ""),
)
