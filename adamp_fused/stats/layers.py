"""The order of layers in a picture, and the modules that they are grouped by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Layers of one module, which follow one another.

    Attributes:
        label: the module's name, and how many layers it has where there are several.
        begin: index of the first.
        end: index after the last.
    """

    label: str
    begin: int
    end: int


def merged(lists: list[list[str]]) -> list[str]:
    """All names in the order of the first list; others after the one that they follow."""
    order = list(lists[0])
    for names in lists[1:]:
        place = 0
        known = set(order)
        for name in names:
            if name in known:
                place = order.index(name) + 1
            else:
                order.insert(place, name)
                place += 1
    return order


def grouped(names: list[str], most: int) -> list[Group]:
    """Neighbours under the longest module names of which there are at most ``most`` groups.

    Modules are made coarser from the inside, so that small ones do not use up the labels; where
    even the outermost are too many, neighbours share a label.
    """
    depth = max(name.count(".") for name in names)
    groups = _at_depth(names, 0)
    for d in range(depth, -1, -1):
        candidate = _at_depth(names, d)
        if len(candidate) <= most:
            groups = candidate
            break
    while len(groups) > max(most, 1):
        pairs = [groups[i : i + 2] for i in range(0, len(groups), 2)]
        groups = [_joined(pair) for pair in pairs]
    return groups


def _at_depth(names: list[str], depth: int) -> list[Group]:
    """Groups of neighbours whose names agree in the first ``depth`` parts."""
    found: list[Group] = []
    begin = 0
    for i in range(1, len(names) + 1):
        if i == len(names) or _prefix(names[i], depth) != _prefix(names[begin], depth):
            count = i - begin
            label = names[begin] if count == 1 else f"{_prefix(names[begin], depth)} ({count})"
            found.append(Group(label, begin, i))
            begin = i
    return found


def _prefix(name: str, depth: int) -> str:
    """The first ``depth + 1`` parts of a name; a number belongs to the part before it."""
    return ".".join(name.split(".")[: depth + 1])


def _joined(pair: list[Group]) -> Group:
    if len(pair) == 1:
        return pair[0]
    first, second = (group.label.split(" (")[0] for group in pair)
    return Group(f"{first} … {second}", pair[0].begin, pair[1].end)
