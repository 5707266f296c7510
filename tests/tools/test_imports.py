"""Modules of the package import downwards: in no circle, and the protocol knows no backend."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "adamp_fused"


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that one imports, at its top or when a function is called."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module in known:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & known.keys()
            names |= inside or {node.module}
    return names


def test_no_circle() -> None:
    """The modules have an order in which each imports earlier ones alone."""
    known = modules()
    order = list(
        TopologicalSorter({n: imported(p, known) for n, p in known.items()}).static_order()
    )
    assert {"adamp_fused.backends.protocol", "adamp_fused._optimizer"} <= set(order)


def test_protocol_knows_no_backend() -> None:
    """What it imports of the folder is nothing; and whoever imports the registry is no backend."""
    known = modules()
    graph = {name: imported(path, known) for name, path in known.items()}
    assert not {n for n in graph["adamp_fused.backends.protocol"] if ".backends." in n}
    backends = {n for n in graph if n.startswith("adamp_fused.backends.")}
    assert not {n for n in backends if "adamp_fused.backends.registry" in graph[n]}
