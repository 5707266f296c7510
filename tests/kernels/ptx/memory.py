"""Loads, stores, atomic operations and prefetches of PTX as C++; their order as `.gpu` has it.

Source: the PTX ISA reference manual, chapter 9.
"""

from __future__ import annotations

import re

from kernels.ptx.listing import Instruction
from kernels.ptx.operands import WIDTH, Operands, Unknown, bits_type, value_type

# Of a load or store: what changes speed alone.
HINTS = {"cs"}


def _access(o: Operands, i: Instruction) -> tuple[str, str, int, str, set[str]]:
    """Of a load or a store: space, type, elements, pointer, and modifiers of order."""
    left = list(i.opcode[1:])
    type_name = left.pop()
    space, count = "generic", 1
    order: set[str] = set()
    for modifier in left:
        if modifier in ("global", "shared", "param", "local"):
            space = modifier
        elif modifier in ("v2", "v4", "v8"):
            count = int(modifier[1])
        elif modifier in ("volatile", "relaxed", "acquire", "release"):
            order.add(modifier)
        elif modifier not in HINTS | {"gpu"}:
            raise Unknown(i, f".{modifier}")
    pointer = o.address(next(at for at in i.operands if at.startswith("[")), space)
    return space, type_name, count, pointer, order


def _load(o: Operands, i: Instruction) -> str:
    space, type_name, count, pointer, order = _access(o, i)
    bits = bits_type(WIDTH[type_name])
    names = re.findall(r"[^{},\s]+", i.operands[0])
    if order & {"relaxed", "acquire"}:
        if (space, count, WIDTH[type_name]) != ("global", 1, 32):
            raise Unknown(i, "an ordered load of this kind")
        kind = "kAcquire" if "acquire" in order else "kRelaxed"
        return o.write(names[0], f"atomic_load({pointer}, races::{kind})")
    call = {"param": "load_plainly", "local": "load_plainly", "shared": "load_shared"}
    load = f"{call.get(space, 'load')}<{bits}, {count}>({pointer})"
    if type_name[0] == "s":
        values = [f"as<{value_type(type_name)}>(in[{k}])" for k in range(count)]
    else:
        values = [f"in[{k}]" for k in range(count)]
    writes = " ".join(o.write(n, v) for n, v in zip(names, values, strict=True))
    return f"{{ const auto in = {load}; {writes} }}"


def _store(o: Operands, i: Instruction) -> str:
    space, type_name, count, pointer, order = _access(o, i)
    bits_name = f"b{WIDTH[type_name]}"
    names = re.findall(r"[^{},\s]+", i.operands[1])
    if len(names) != count:
        raise Unknown(i, "another number of values")
    values = [o.read(name, bits_name) for name in names]
    if order & {"relaxed", "release"}:
        if (space, count, bits_name) != ("global", 1, "b32"):
            raise Unknown(i, "an ordered store of this kind")
        kind = "kRelease" if "release" in order else "kRelaxed"
        return f"atomic_store({pointer}, {values[0]}, races::{kind});"
    call = {"local": "store_plainly", "shared": "store_shared"}.get(space, "store")
    if "volatile" in order:
        if count != 1:
            raise Unknown(i, "a volatile store of several values")
        call = "store_strongly"
    return f"{call}<{bits_type(WIDTH[type_name])}, {count}>({pointer}, {{{', '.join(values)}}});"


def _atomic(o: Operands, i: Instruction) -> str:
    left = set(i.opcode[1:])
    if not {"add", "u32"} <= left:
        raise Unknown(i, "only 32-bit additions")
    orders = {"acq_rel": "kAcquireRelease", "relaxed": "kRelaxed"}
    named = [orders[modifier] for modifier in left & set(orders)]
    if left - {"global", "add", "u32", "gpu"} - set(orders):
        raise Unknown(i, "a modifier")
    to, where, amount = i.operands
    call = (
        f"atomic_add({o.address(where, 'global')}, {o.read(amount, 'u32')}, "
        f"races::{named[0] if named else 'kRelaxed'})"
    )
    return o.write(to, call)


def _to_space(o: Operands, i: Instruction) -> str:
    *way, space, _ = i.opcode[1:]
    value = o.read(i.operands[1], "u64")
    if space != "shared":
        if space not in ("global", "local", "param"):
            raise Unknown(i, f".{space}")
        return o.write(i.operands[0], value)
    return o.write(i.operands[0], f"{'shared_of' if way else 'generic_of'}({value})")


def _prefetch(o: Operands, i: Instruction) -> str:
    if i.opcode[1:] != ("global", "L2"):
        raise Unknown(i, "another prefetch")
    return f"prefetch_line({o.address(i.operands[0], 'global')});"


def _bulk(o: Operands, i: Instruction) -> str:
    if i.opcode[1:] != ("async", "bulk", "prefetch", "L2", "global"):
        raise Unknown(i, "another bulk copy")
    return f"prefetch_memory({o.address(i.operands[0], 'global')}, {o.read(i.operands[1], 'u32')});"


MEMORY = {
    "ld": _load,
    "st": _store,
    "atom": _atomic,
    "cvta": _to_space,
    "prefetch": _prefetch,
    "cp": _bulk,
}
