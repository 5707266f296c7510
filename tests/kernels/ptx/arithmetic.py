"""Instructions of PTX that compute, as C++; rounded to nearest or refused.

Source: the PTX ISA reference manual, chapter 9.
"""

from __future__ import annotations

import re

from kernels.ptx.listing import Instruction
from kernels.ptx.operands import WIDTH, Operands, Unknown, bits_type, value_type

COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
UNSIGNED_COMPARE = {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
OPERATOR = {"add": "+", "sub": "-", "mul": "*", "div": "/", "rem": "%"}
BITWISE = {"and": "&", "or": "|", "xor": "^"}


def _arithmetic(o: Operands, i: Instruction) -> str:
    name, *modifiers, type_name = i.opcode
    is_float = type_name in ("f32", "f64")
    to, *sources = i.operands
    a, b = (o.read(source, type_name) for source in sources)
    if is_float:
        if modifiers != ["rn"]:
            raise Unknown(i, "without .rn it may be contracted")
        return o.write(to, f"({a} {OPERATOR[name]} {b})")
    if name == "mul" and modifiers == ["wide"]:
        return o.write(to, f"multiply_wide({a}, {b})")
    if name == "mul" and modifiers == ["hi"]:
        return o.write(to, f"multiply_high({a}, {b})")
    if modifiers not in ([], ["lo"]):
        raise Unknown(i, f"modifiers {modifiers}")
    if name in ("div", "rem"):
        by = {"div": "divide", "rem": "remainder_of"}[name]
        return o.write(to, f"{by}({a}, {b})")
    return o.write(to, f"wrapped({a}, {b}, [](auto x, auto y) {{ return x {OPERATOR[name]} y; }})")


def _mad(o: Operands, i: Instruction) -> str:
    _, mode, type_name = i.opcode
    to, x, y, z = i.operands
    a, b = o.read(x, type_name), o.read(y, type_name)
    if mode == "lo":
        c = o.read(z, type_name)
        return o.write(to, f"multiply_add({a}, {b}, {c})")
    if mode == "wide":
        c = o.read(z, f"{type_name[0]}{2 * WIDTH[type_name]}")
        return o.write(to, f"add_wide(multiply_wide({a}, {b}), {c})")
    raise Unknown(i, f".{mode}")


def _root(o: Operands, i: Instruction) -> str:
    if i.opcode[1:-1] != ("rn",) or i.opcode[-1] not in ("f32", "f64"):
        raise Unknown(i, "not rounded to nearest")
    return o.write(i.operands[0], f"std::sqrt({o.read(i.operands[1], i.opcode[-1])})")


def _reciprocal(o: Operands, i: Instruction) -> str:
    if i.opcode[1:-1] != ("rn",) or i.opcode[-1] not in ("f32", "f64"):
        raise Unknown(i, "not rounded to nearest")
    one = value_type(i.opcode[-1])
    return o.write(i.operands[0], f"({one}(1) / {o.read(i.operands[1], i.opcode[-1])})")


def _bitwise(o: Operands, i: Instruction) -> str:
    name, type_name = i.opcode
    to, x, y = i.operands
    if type_name == "pred":
        a, b = o.predicate(x), o.predicate(y)
        return o.write(to, f"bool(int({a}) {BITWISE[name]} int({b}))")
    a, b = o.read(x, type_name), o.read(y, type_name)
    return o.write(to, f"{value_type(type_name)}({a} {BITWISE[name]} {b})")


def _negation(o: Operands, i: Instruction) -> str:
    name, type_name = i.opcode
    to, x = i.operands
    if type_name == "pred":
        return o.write(to, f"!{o.predicate(x)}")
    a = o.read(x, type_name)
    if name == "not":
        return o.write(to, f"{value_type(type_name)}(~{a})")
    if type_name in ("f32", "f64"):
        return o.write(to, f"-{a}" if name == "neg" else f"std::fabs({a})")
    return o.write(to, f"{'negative' if name == 'neg' else 'absolute'}({a})")


def _shift(o: Operands, i: Instruction) -> str:
    name, type_name = i.opcode
    to, x, by = i.operands
    call = "shift_left" if name == "shl" else "shift_right"
    return o.write(to, f"{call}({o.read(x, type_name)}, {o.read(by, 'u32')})")


def _extreme(o: Operands, i: Instruction) -> str:
    name, type_name = i.opcode
    a, b = (o.read(source, type_name) for source in i.operands[1:])
    if type_name in ("f32", "f64"):  # a NaN gives way to the other operand, as in fmin
        return o.write(i.operands[0], f"std::f{name}({a}, {b})")
    return o.write(i.operands[0], f"std::{name}({a}, {b})")


def _compare(o: Operands, i: Instruction) -> str:
    _, relation, *rest, type_name = i.opcode
    to, x, y, *more = i.operands
    a, b = o.read(x, type_name), o.read(y, type_name)
    is_float = type_name in ("f32", "f64")
    if is_float and relation in ("num", "nan"):
        value = f"is_{relation}({a}, {b})"
    elif is_float and relation.endswith("u") and relation[:-1] in COMPARE:
        value = f"(is_nan({a}, {b}) || {a} {COMPARE[relation[:-1]]} {b})"
    elif is_float and relation == "ne":
        value = f"(is_num({a}, {b}) && {a} != {b})"
    elif not is_float and relation in UNSIGNED_COMPARE:
        value = f"({a} {UNSIGNED_COMPARE[relation]} {b})"
    elif relation in COMPARE:
        value = f"({a} {COMPARE[relation]} {b})"
    else:
        raise Unknown(i, f".{relation}")
    if rest:
        if len(rest) != 1 or rest[0] not in BITWISE:
            raise Unknown(i, f"modifiers {rest}")
        value = f"bool(int({value}) {BITWISE[rest[0]]} int({o.predicate(more[0])}))"
    if "|" in to:
        raise Unknown(i, "two results")
    return o.write(to, value)


def _select(o: Operands, i: Instruction) -> str:
    to, x, y, chooser = i.operands
    bits = f"b{WIDTH[i.opcode[-1]]}"
    return o.write(to, f"({o.predicate(chooser)} ? {o.read(x, bits)} : {o.read(y, bits)})")


def _move(o: Operands, i: Instruction) -> str:
    type_name = i.opcode[-1]
    to, source = i.operands
    if type_name == "pred":
        value = {"0": "false", "1": "true", "-1": "true"}.get(source)
        return o.write(to, value or o.predicate(source))
    bits = f"b{WIDTH[type_name]}"
    if to.startswith("{"):
        parts = re.findall(r"[^{},\s]+", to)
        each = WIDTH[type_name] // len(parts)
        whole = o.read(source, bits)
        writes = (
            o.write(part, f"{bits_type(each)}(whole >> {k * each})") for k, part in enumerate(parts)
        )
        return f"{{ const auto whole = {whole}; {' '.join(writes)} }}"
    if source.startswith("{"):
        parts = re.findall(r"[^{},\s]+", source)
        each = WIDTH[type_name] // len(parts)
        values = (
            f"({bits_type(WIDTH[type_name])}({o.read(part, f'b{each}')}) << {k * each})"
            for k, part in enumerate(parts)
        )
        return o.write(to, f"{bits_type(WIDTH[type_name])}({' | '.join(values)})")
    return o.write(to, o.read(source, type_name if source[:2] in ("0f", "0d") else bits))


def _convert(o: Operands, i: Instruction) -> str:
    *modifiers, to_type, from_type = i.opcode[1:]
    to, source = i.operands
    rounding = [m for m in modifiers if m in ("rn", "rzi")]
    if len(rounding) != len(modifiers):
        raise Unknown(i, f"modifiers {modifiers}")
    kind = (to_type, from_type, *rounding)
    if kind == ("f32", "f16"):
        return o.write(to, f"half_to_float({o.read(source, 'b16')})")
    if kind == ("f32", "bf16"):
        return o.write(to, f"brain_to_float({o.read(source, 'b16')})")
    if kind == ("f16", "f32", "rn"):
        return o.write(to, f"float_to_half({o.read(source, 'f32')})")
    if kind == ("bf16", "f32", "rn"):
        return o.write(to, f"float_to_brain({o.read(source, 'f32')})")
    value = o.read(source, from_type)
    from_float, to_float = from_type in ("f32", "f64"), to_type in ("f32", "f64")
    if {to_type, from_type} & {"f16", "bf16"}:
        raise Unknown(i, "a conversion of 16-bit types")
    if from_float and not to_float:
        if rounding != ["rzi"]:
            raise Unknown(i, "a rounding")
        return o.write(to, f"truncate<{value_type(to_type)}>({value})")
    if to_float:
        exact = from_type == "f32" and to_type == "f64"
        if rounding != ([] if exact else ["rn"]):
            raise Unknown(i, "a rounding")
    elif rounding:
        raise Unknown(i, "a rounding of integers")
    return o.write(to, f"{value_type(to_type)}({value})")


def _permute(o: Operands, i: Instruction) -> str:
    a, b, selection = (o.read(source, "b32") for source in i.operands[1:])
    if i.opcode[1:] != ("b32",):
        raise Unknown(i, "a mode")
    return o.write(i.operands[0], f"permute({a}, {b}, {selection})")


def _field(o: Operands, i: Instruction) -> str:
    if i.opcode[1] not in ("u32", "u64"):
        raise Unknown(i, "a signed field")
    a = o.read(i.operands[1], i.opcode[1])
    first, count = (o.read(source, "u32") for source in i.operands[2:])
    return o.write(i.operands[0], f"bit_field({a}, {first}, {count})")


def _insert(o: Operands, i: Instruction) -> str:
    type_name = i.opcode[1]
    a, b = (o.read(source, type_name) for source in i.operands[1:3])
    first, count = (o.read(source, "u32") for source in i.operands[3:])
    return o.write(i.operands[0], f"insert_field({a}, {b}, {first}, {count})")


ARITHMETIC = {
    **dict.fromkeys(OPERATOR, _arithmetic),
    "mad": _mad,
    "sqrt": _root,
    "rcp": _reciprocal,
    **dict.fromkeys(BITWISE, _bitwise),
    **dict.fromkeys(("not", "neg", "abs"), _negation),
    **dict.fromkeys(("shl", "shr"), _shift),
    **dict.fromkeys(("min", "max"), _extreme),
    "setp": _compare,
    "selp": _select,
    "mov": _move,
    "cvt": _convert,
    "prmt": _permute,
    "bfe": _field,
    "bfi": _insert,
}
