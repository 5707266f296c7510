"""The examples of docs/stats.md are Python, and the commands are those of the package."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stats.md"


def test_examples_are_python() -> None:
    """Every block compiles; every name that is imported is there."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        compile(block, str(PAGE), "exec")
        for line in block.splitlines():
            if line.startswith("from adamp_fused"):
                exec(line, {})
