"""Instructions of PTX, translated and executed, against what the reference manual says of them."""

import math
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from kernels.emulation import build as emulated
from kernels.ptx.listing import Instruction, parse
from kernels.ptx.translate import Unknown, entries

HEAD = """
.version 9.0
.target sm_90
.address_size 64
.extern .shared .align 16 .b8 bytes[];
.visible .entry kernel(
  .param .align 16 .b8 args[64]
)
.maxntid 320
{
  .reg .pred %p<4>;
  .reg .b16 %h<8>;
  .reg .b32 %r<16>;
  .reg .b64 %d<16>;
"""


def f32(value: float) -> int:
    """The bits of a float."""
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def f64(value: float) -> int:
    """The bits of a double."""
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


NAN, TINY = 0x7FC00000, f32(1e-45)
# Statements, with a, b and c in %r0, %r1 and %r2, as wide in %d0 and %d1 -> what is in %d15 then.
CASES: list[tuple[str, tuple[int, ...], int]] = [
    ("add.s32 %r3, %r0, %r1; cvt.s64.s32 %d15, %r3;", (2**31 - 1, 1), 2**64 - 2**31),
    ("sub.s32 %r3, %r0, 5; cvt.u64.u32 %d15, %r3;", (3,), 2**32 - 2),
    ("mul.lo.s32 %r3, %r0, %r1; cvt.u64.u32 %d15, %r3;", (2**31, 3), 2**31),
    ("mul.wide.s32 %d15, %r0, %r1;", (2**32 - 2, 3), 2**64 - 6),
    ("mul.wide.u32 %d15, %r0, %r1;", (2**32 - 2, 3), 3 * (2**32 - 2)),
    ("mul.hi.s32 %r3, %r0, %r1; cvt.s64.s32 %d15, %r3;", (2**32 - 2, 2**31 - 1), 2**64 - 1),
    ("mad.lo.s32 %r3, %r0, %r1, -7; cvt.s64.s32 %d15, %r3;", (2, 3), 2**64 - 1),
    ("div.s32 %r3, %r0, %r1; cvt.s64.s32 %d15, %r3;", (2**32 - 7, 2), 2**64 - 3),
    ("div.u32 %r3, %r0, %r1; cvt.u64.u32 %d15, %r3;", (2**32 - 7, 2), 2**31 - 4),
    ("rem.s32 %r3, %r0, %r1; cvt.s64.s32 %d15, %r3;", (2**32 - 7, 2), 2**64 - 1),
    ("rem.u32 %r3, %r0, %r1; cvt.u64.u32 %d15, %r3;", (2**32 - 7, 5), (2**32 - 7) % 5),
    ("min.s32 %r3, %r0, %r1; cvt.s64.s32 %d15, %r3;", (2**32 - 1, 1), 2**64 - 1),
    ("neg.s32 %r3, %r0; cvt.s64.s32 %d15, %r3;", (5,), 2**64 - 5),
    ("shr.s32 %r3, %r0, 31; cvt.u64.u32 %d15, %r3;", (2**31,), 2**32 - 1),
    ("shr.u32 %r3, %r0, %r1; cvt.u64.u32 %d15, %r3;", (2**31, 32), 0),
    ("shr.s32 %r3, %r0, %r1; cvt.u64.u32 %d15, %r3;", (2**31, 99), 2**32 - 1),
    ("shl.b32 %r3, %r0, %r1; cvt.u64.u32 %d15, %r3;", (3, 31), 2**31),
    ("shl.b64 %d15, %d0, 40;", (2**30 + 1,), 2**40),
    ("prmt.b32 %r3, %r0, %r1, 0x3B70; cvt.u64.u32 %d15, %r3;", (0x94223344, 0x55667788),
     0x94FF5544),
    ("bfi.b64 %d15, %d0, %d1, 32, 32;", (7, 9), 7 * 2**32 + 9),
    ("bfe.u32 %r3, %r0, 4, 8; cvt.u64.u32 %d15, %r3;", (0xABCDE,), 0xCD),
    ("not.b32 %r3, %r0; cvt.u64.u32 %d15, %r3;", (1,), 2**32 - 2),
    ("cvt.u16.u32 %h0, %r0; shr.u16 %h1, %h0, 4; cvt.u64.u16 %d15, %h1;", (0x12345,), 0x234),
    ("mov.b32 {%h0, %h1}, %r0; mov.b32 %r3, {%h1, %h0}; cvt.u64.u32 %d15, %r3;", (5,), 5 * 2**16),
    ("mov.b64 {%r3, %r4}, %d0; mov.b64 %d15, {%r4, %r3};", (5,), 5 * 2**32),
    ("add.rn.f32 %r3, %r0, %r1; cvt.u64.u32 %d15, %r3;", (f32(1), f32(2**-24)), f32(1)),
    ("mul.rn.f32 %r3, %r0, 0f3F000000; cvt.u64.u32 %d15, %r3;", (TINY,), 0),
    ("add.rn.f32 %r3, %r0, %r0; cvt.u64.u32 %d15, %r3;", (TINY,), 2),
    ("div.rn.f32 %r3, %r0, %r1; cvt.u64.u32 %d15, %r3;", (f32(1), f32(3)), f32(1 / 3)),
    ("sqrt.rn.f32 %r3, %r0; cvt.u64.u32 %d15, %r3;", (f32(2),), f32(math.sqrt(2))),
    ("rcp.rn.f32 %r3, %r0; cvt.u64.u32 %d15, %r3;", (f32(3),), f32(1 / 3)),
    ("neg.f32 %r3, %r0; cvt.u64.u32 %d15, %r3;", (0,), 2**31),
    ("abs.f32 %r3, %r0; cvt.u64.u32 %d15, %r3;", (f32(-2),), f32(2)),
    ("max.f32 %r3, %r0, %r1; cvt.u64.u32 %d15, %r3;", (NAN, f32(2)), f32(2)),
    ("cvt.f64.f32 %d15, %r0;", (f32(1.5),), f64(1.5)),
    ("cvt.f64.f32 %d1, %r0; cvt.rn.f32.f64 %r3, %d1; cvt.u64.u32 %d15, %r3;", (TINY,), 1),
    ("cvt.rn.f32.s32 %r3, %r0; cvt.u64.u32 %d15, %r3;", (2**32 - 3,), f32(-3)),
    ("cvt.rn.f32.u32 %r3, %r0; cvt.u64.u32 %d15, %r3;", (2**24 + 1,), f32(2**24)),
    ("cvt.rzi.s32.f32 %r3, %r0; cvt.s64.s32 %d15, %r3;", (f32(-2.9),), 2**64 - 2),
    ("cvt.rzi.s32.f32 %r3, %r0; cvt.u64.u32 %d15, %r3;", (f32(1e20),), 2**31 - 1),
    ("cvt.rzi.u32.f32 %r3, %r0; cvt.u64.u32 %d15, %r3;", (NAN,), 0),
    ("cvt.rn.bf16.f32 %h0, %r0; cvt.u64.u16 %d15, %h0;", (0x3F808000,), 0x3F80),
    ("cvt.rn.bf16.f32 %h0, %r0; cvt.u64.u16 %d15, %h0;", (0x3F818000,), 0x3F82),
    ("cvt.rn.bf16.f32 %h0, %r0; cvt.u64.u16 %d15, %h0;", (NAN,), 0x7FFF),
    ("cvt.rn.f16.f32 %h0, %r0; cvt.u64.u16 %d15, %h0;", (f32(65520),), 0x7C00),
    ("mov.b16 %h0, 0x3C00; cvt.f32.f16 %r3, %h0; cvt.u64.u32 %d15, %r3;", (), f32(1)),
    ("setp.lt.s32 %p0, %r0, %r1; selp.b64 %d15, 1, 2, %p0;", (2**32 - 1, 0), 1),
    ("setp.lt.u32 %p0, %r0, %r1; selp.b64 %d15, 1, 2, %p0;", (2**32 - 1, 0), 2),
    ("setp.hi.u32 %p0, %r0, %r1; selp.b64 %d15, 1, 2, %p0;", (2**32 - 1, 0), 1),
    ("setp.eq.f32 %p0, %r0, %r1; selp.b64 %d15, 1, 2, %p0;", (0, 2**31), 1),
    ("setp.neu.f32 %p0, %r0, %r0; selp.b64 %d15, 1, 2, %p0;", (NAN,), 1),
    ("setp.ne.f32 %p0, %r0, %r0; selp.b64 %d15, 1, 2, %p0;", (NAN,), 2),
    ("setp.leu.f32 %p0, %r0, %r1; selp.b64 %d15, 1, 2, %p0;", (NAN, 0), 1),
    ("setp.le.f32 %p0, %r0, %r1; selp.b64 %d15, 1, 2, %p0;", (NAN, 0), 2),
    ("setp.nan.f32 %p0, %r0, %r1; selp.b64 %d15, 1, 2, %p0;", (0, NAN), 1),
    ("setp.eq.s32 %p0, %r0, 1; setp.eq.and.s32 %p1, %r1, 2, !%p0; selp.b64 %d15, 1, 2, %p1;",
     (1, 2), 2),
    ("setp.eq.s32 %p0, %r0, 1; not.pred %p1, %p0; @%p1 mov.b64 %d15, 3; @!%p1 mov.b64 %d15, 4;",
     (1,), 4),
    ("mov.b64 %d15, 1; setp.ne.s32 %p0, %r0, 0; @%p0 bra $L; mov.b64 %d15, 2; $L:", (5,), 1),
    ("mov.b32 %r3, 0; $L_again: add.s32 %r3, %r3, 1; setp.lt.s32 %p0, %r3, %r0; @%p0 bra $L_again; "
     "cvt.u64.u32 %d15, %r3;", (7,), 7),
    ("{ .reg .b32 t; mov.b32 t, 6; cvt.u64.u32 %d15, t; }", (), 6),
    ("mov.b32 %r3, bytes; cvt.u64.u32 %d1, %r3; cvta.shared.u64 %d1, %d1; st.u32 [%d1+4], %r0; "
     "ld.shared.u32 %r4, [%r3+4]; cvt.u64.u32 %d15, %r4;", (42,), 42),
    ("mov.b32 %r3, bytes; st.shared.v2.u32 [%r3+8], {%r0, %r1}; ld.shared.u64 %d15, [%r3+8];",
     (1, 2), 1 + 2 * 2**32),
    ("mov.b32 %r3, bytes; st.shared.u8 [%r3], %r0; ld.shared.s8 %r4, [%r3]; cvt.s64.s32 %d15, %r4;",
     (0x1FF,), 2**64 - 1),
    ("ld.param.v2.u32 {%r3, %r4}, [args+8]; mov.b64 %d15, {%r4, %r3};", (0, 0, 5), 5 * 2**32),
    ("mov.u32 %r3, %tid.x; cvt.u64.u32 %d15, %r3;", (), 3),
]  # fmt: skip
REFUSED = [
    ("add.f32 %r3, %r0, %r1;", "contracted"),
    ("add.rn.ftz.f32 %r3, %r0, %r1;", "contracted"),
    ("sqrt.approx.f32 %r3, %r0;", "not rounded to nearest"),
    ("atom.global.cas.b32 %r3, [%d0], %r0, %r1;", "32-bit additions"),
    ("ld.global.acquire.sys.u32 %r3, [%d0];", ".sys"),
    ("vote.sync.any.pred %p0, %p1, -1;", "not known"),
    ("fma.rn.f32 %r3, %r0, %r1, %r2;", "not known"),
    ("add.s32 %r3, %r0, %r99;", "%r99"),
    ("mov.b64 %d3, %r0;", "narrower"),
]


def listing(statements: str) -> str:
    """A kernel that executes them, with its arguments in registers, and stores %d15."""
    loads = "".join(f"ld.param.u32 %r{k}, [args+{16 + 4 * k}];" for k in range(3))
    wide = "cvt.u64.u32 %d0, %r0; cvt.u64.u32 %d1, %r1;"
    return f"{HEAD}{loads}{wide}{statements}ld.param.u64 %d14, [args];st.u64 [%d14], %d15;ret;}}"


MAIN = """
#include <cstdio>
#include "{root}/tests/kernels/ptx/machine.h"
namespace translated {{
{functions}
}}
int main() {{
  static uint64_t results[{count}];
  const auto body = [] {{
    if (emulation::here.thread != 3) return;
    {calls}
  }};
  emulation::run_launch({{1, 32, 32, 64, body}}, emulation::Schedule());
  for (const uint64_t result : results) {{
    std::printf("%llu\\n", static_cast<unsigned long long>(result));
  }}
}}
"""
CALL = """{{
    uint64_t result = 0;
    alignas(16) unsigned char args[64] = {{}};
    const uint64_t at = reinterpret_cast<uint64_t>(&result);
    const uint32_t values[] = {{{values}}};
    std::memcpy(args, &at, 8);
    std::memcpy(args + 16, values, sizeof values);
    std::memcpy(args + 8, values + 2, 4);
    translated::case_{k}(args);
    results[{k}] = result;
  }}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """What each case comes to; one program for all."""
    if shutil.which(emulated.compiler()) is None:
        pytest.skip(f"no C++ compiler ({emulated.compiler()})")
    functions, calls = [], []
    for k, (statements, values, _) in enumerate(CASES):
        _, translate = entries(listing(statements))["kernel"]
        functions.append(translate(f"case_{k}"))
        given = ", ".join(f"{value}u" for value in (*values, 0, 0, 0)[:3])
        calls.append(CALL.format(k=k, values=given))
    folder: Path = tmp_path_factory.mktemp("ptx")
    source, program = folder / "cases.cpp", folder / "cases"
    code = {"functions": "\n".join(functions), "calls": "".join(calls)}
    source.write_text(MAIN.format(root=emulated.ROOT, count=len(CASES), **code))
    objects = emulated.compile_all(emulated.MACHINE, emulated.PLAIN)
    command = [emulated.compiler(), "-std=c++17", "-O1", "-w", source, *objects, "-ldl"]
    subprocess.run([*command, "-o", program], check=True)
    return [int(line) for line in subprocess.check_output([program], text=True).split()]


@pytest.mark.parametrize("k", range(len(CASES)), ids=lambda k: CASES[k][0].split()[0] + f"-{k}")
def test_instruction(results: list[int], k: int) -> None:
    """One instruction, and what brings its result to where it is seen."""
    statements, values, want = CASES[k]
    assert hex(results[k]) == hex(want), f"{statements} of {[hex(value) for value in values]}"


@pytest.mark.parametrize(("statement", "why"), REFUSED)
def test_refused(statement: str, why: str) -> None:
    """What may be rounded otherwise, or is not known, is no guess."""
    _, translate = entries(listing(statement))["kernel"]
    with pytest.raises(Unknown, match=why):
        translate("refused")


def test_message_names_the_line() -> None:
    """A message says where, and shows the instruction."""
    [entry], shared = parse(listing("\nadd.s32 %r3,\n  %r0, 1;\n"))
    found = [i for i in entry.body if isinstance(i, Instruction) and i.opcode[0] == "add"]
    assert shared == {"bytes"}
    assert [str(i) for i in found] == ["line 16: add.s32 %r3, %r0, 1"]
