"""What the Markdown tables share."""

from __future__ import annotations

from typing import Any

NOT_MEASURED = "not measured yet"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table, its first column left aligned and the rest right."""
    lines = [header, [":--"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(machine: dict[str, Any]) -> str:
    """What a table was measured on, as a sentence."""
    cores = f"{machine['threads']} of {machine['cores']} cores"
    parts = [
        f"{machine['cpu']} ({machine['cpu_capability']}, {cores})",
        machine["system"],
        f"Python {machine['python']}",
    ]
    if machine["gpu"]:
        gpu = f"{machine['gpu']} (driver {machine['gpu_driver']}, CUDA {machine['cuda']})"
        parts = [gpu, *parts]
    parts += [f"torch {machine['torch']}", machine["date"]]
    if machine["commit"]:
        parts.append(f"commit {machine['commit']}")
    return "Measured on " + ", ".join(parts) + "."


def short(title: str) -> str:
    """A workload's title for a table."""
    return title.replace("one tensor of ", "")
