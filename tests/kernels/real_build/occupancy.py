"""How many blocks of a kernel one SM holds.

After the CUDA programming guide's table of technical specifications for each compute capability;
the arithmetic agrees with ``cuda_occupancy.h`` of the CUDA toolkit.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
KIB = 1024
REGISTERS = 64 * KIB  # of an SM, a quarter for each of its four partitions
PARTITIONS = 4
REGISTERS_AT_A_TIME = 256  # what a warp's registers are rounded up to
SHARED_AT_A_TIME = 128
RESERVED = KIB  # shared memory that the system takes for each block


@dataclass(frozen=True)
class Machine:
    """What one SM has.

    Attributes:
        warps: that it holds at most.
        blocks: that it holds at most.
        shared: bytes of shared memory.
        reserved_is_counted: whether a kernel's static shared memory, as its machine code states it,
            already contains what the system takes.
    """

    warps: int
    blocks: int
    shared: int
    reserved_is_counted: bool


MACHINES = {
    "sm_80": Machine(64, 32, 164 * KIB, reserved_is_counted=False),
    "sm_90": Machine(64, 32, 228 * KIB, reserved_is_counted=True),
    "sm_100": Machine(64, 32, 228 * KIB, reserved_is_counted=True),
    "sm_120": Machine(48, 24, 100 * KIB, reserved_is_counted=True),
}


def rounded_up(value: int, step: int) -> int:
    """The next multiple."""
    return -(-value // step) * step


def shared_of_block(machine: Machine, static: int, dynamic: int) -> int:
    """Bytes that a block takes of its SM's shared memory."""
    reserved = 0 if machine.reserved_is_counted else RESERVED
    return rounded_up(static + dynamic + reserved, SHARED_AT_A_TIME)


def blocks(machine: Machine, registers: int, threads: int, shared: int) -> int:
    """Blocks on an SM at a time.

    Args:
        machine: the SM.
        registers: of a thread.
        threads: of a block.
        shared: bytes that a block takes, from `shared_of_block`.
    """
    warps = -(-threads // WARP)
    warp_registers = rounded_up(registers * WARP, REGISTERS_AT_A_TIME)
    warps_with_registers = REGISTERS // PARTITIONS // warp_registers * PARTITIONS
    return min(
        machine.blocks,
        machine.warps // warps,
        warps_with_registers // warps,
        machine.shared // shared,
    )
