"""Assigns collectors to processes."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def assign(names: Sequence[str], files: Mapping[str, Sequence[Path]], processes: int) -> list[list[str]]:
    """Distribute collectors evenly over processes; collectors that write to the same embedded database share a process.

    Args:
        names: All collectors.
        files: The embedded database files that each of them writes to.
        processes: The largest number of processes.
    """
    groups: list[list[str]] = [[] for _ in range(max(1, processes))]
    for component in sorted(_components(names, files), key=len, reverse=True):
        min(groups, key=len).extend(component)
    return [group for group in groups if group]


def _components(names: Sequence[str], files: Mapping[str, Sequence[Path]]) -> list[list[str]]:
    """Return the groups of collectors that share a file, directly or through others."""
    leader = {name: name for name in names}

    def leader_of(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    first: dict[Path, str] = {}
    for name in names:
        for file in files.get(name, ()):
            leader[leader_of(name)] = leader_of(first.setdefault(file, name))
    components: dict[str, list[str]] = {}
    for name in names:
        components.setdefault(leader_of(name), []).append(name)
    return list(components.values())
