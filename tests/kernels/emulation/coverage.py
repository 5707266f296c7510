"""Which lines of the device code the emulated cases run, by gcov."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from kernels.emulation import build
from kernels.emulation.sources import DEVICE_CODE


def unreached() -> dict[str, dict[int, str]]:
    """Lines that no case reaches in any instantiation: file -> line number -> text."""
    program = build.driver(build.COVERED)
    kernel = build.compile_object(build.KERNEL, build.COVERED)
    kernel.with_suffix(".gcda").unlink(missing_ok=True)
    subprocess.run([program, "--schedules", "1"], check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as folder:
        report = subprocess.run(
            ["gcov", "--json-format", "--stdout", str(kernel)],
            check=True,
            capture_output=True,
            text=True,
            cwd=folder,
        ).stdout
    counts: dict[str, dict[int, int]] = {f"csrc/{name}": {} for name in DEVICE_CODE}
    for file in json.loads(report)["files"]:
        path = Path(file["file"]).resolve()
        name = str(path.relative_to(build.ROOT)) if path.is_relative_to(build.ROOT) else ""
        for line in file["lines"] if name in counts else ():
            number = line["line_number"]
            counts[name][number] = counts[name].get(number, 0) + line["count"]
    missed = {}
    for name, lines in counts.items():
        assert lines, f"gcov knows nothing of {name}"
        text = (build.ROOT / name).read_text().splitlines()
        missed[name] = {n: text[n - 1].strip() for n, count in lines.items() if count == 0}
    return missed
