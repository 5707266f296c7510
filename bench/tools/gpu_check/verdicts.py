"""What the tools print, read into verdicts."""

from __future__ import annotations

import csv
import re
from typing import NamedTuple

from bench.tools.gpu_check.process import Ended

PASS, FAIL, NOT_AVAILABLE = "pass", "FAIL", "not available"

READ, WRITTEN = "dram__bytes_read.sum", "dram__bytes_write.sum"
UNITS = {"byte": 1, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}


class Verdict(NamedTuple):
    """One of the three words above, and the figure or the reason behind it."""

    verdict: str
    figure: str


class Unreadable(ValueError):
    """A tool's output that lacks what is looked for."""


def last_line(output: str) -> str:
    """The last line with anything in it, for want of a better reason."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "no output"


def failed(ended: Ended) -> Verdict | None:
    """The verdict on a command that did not end well by itself; None for one that did."""
    if ended.status is None:
        return Verdict(FAIL, f"stopped after {ended.seconds:.0f} s: {last_line(ended.output)}")
    if ended.status != 0:
        return Verdict(FAIL, f"exit status {ended.status}: {last_line(ended.output)}")
    return None


def pytest_counts(output: str) -> dict[str, int]:
    """The counts of pytest's last line, as ``{"passed": 812, "skipped": 40}``.

    Raises:
        Unreadable: pytest did not come to its end.
    """
    summary = r"^=*\s*((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s\b"
    found = re.findall(summary, output, re.MULTILINE)
    if not found:
        raise Unreadable(f"no summary of pytest: {last_line(output)}")
    return {what: int(count) for count, what in re.findall(r"(\d+) ([a-z]+)", found[-1])}


def judge_tests(ended: Ended) -> Verdict:
    """Everything passed, or was skipped with a reason, and something did pass."""
    try:
        counts = pytest_counts(ended.output)
    except Unreadable as error:
        return failed(ended) or Verdict(FAIL, str(error))
    figure = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    well = ended.status == 0 and counts.get("passed", 0) > 0
    return Verdict(PASS if well else FAIL, figure)


def sanitizer_findings(output: str) -> int:
    """The errors, or for racecheck the hazards, warnings included, of all summaries.

    Raises:
        Unreadable: there is no summary, so nothing was proved.
    """
    found = re.findall(
        r"^========= (?:ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard)",
        output,
        re.MULTILINE,
    )
    if not found:
        raise Unreadable(f"no summary of compute-sanitizer: {last_line(output)}")
    return sum(int(errors or hazards) for errors, hazards in found)


def judge_sanitizer(ended: Ended) -> Verdict:
    """Nothing was found, and the program under the tool came to its own good end."""
    try:
        findings = sanitizer_findings(ended.output)
    except Unreadable as error:
        return failed(ended) or Verdict(FAIL, str(error))
    if findings:
        return Verdict(FAIL, f"{findings:,} found")
    return failed(ended) or Verdict(PASS, "0 found")


def dram_bytes(output: str) -> tuple[float, float]:
    """Bytes read and written by all profiled kernels, from ``ncu --csv --page raw``.

    The header is followed by a row of units, then by one row for each kernel.

    Raises:
        Unreadable: there is no such table; the message is ncu's own reason.
    """
    lines = output.splitlines()
    table = list(csv.DictReader(line for line in lines if line.startswith('"')))
    if len(table) < 2 or READ not in table[0] or WRITTEN not in table[0]:
        reasons = [line for line in lines if line.startswith(("==ERROR==", "==WARNING=="))]
        # An error says more than the warning that nothing was profiled.
        reasons.sort(key=lambda line: line.startswith("==WARNING=="))
        raise Unreadable(reasons[0].split("== ", 1)[-1] if reasons else last_line(output))
    units, kernels = table[0], table[1:]

    def total(metric: str) -> float:
        return sum(float(row[metric].replace(",", "")) for row in kernels) * UNITS[units[metric]]

    try:
        return total(READ), total(WRITTEN)
    except (KeyError, ValueError) as error:
        raise Unreadable(f"ncu's table has {error}") from None


def judge_dram(ended: Ended, parameters: int, most: float | None) -> Verdict:
    """Bytes a parameter, which must not exceed ``most`` where that is given."""
    if ended.status is None:
        return Verdict(FAIL, f"stopped after {ended.seconds:.0f} s")
    try:
        read, written = (part / parameters for part in dram_bytes(ended.output))
    except Unreadable as error:
        # The program's own failure is none of ncu's.
        crashed = "Traceback (most" in ended.output or "returned an error code" in str(error)
        return Verdict(FAIL if crashed else NOT_AVAILABLE, str(error))
    figure = f"{read + written:.1f} bytes a parameter ({read:.1f} read, {written:.1f} written)"
    return Verdict(FAIL if most is not None and read + written > most else PASS, figure)
