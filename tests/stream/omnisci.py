"""The HeavyDB of the tests, as one more target of the suites."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from api2db import Stream2Omnisci
from tests.servers.omnisci import OmnisciServer
from tests.stream.databases import COLLECTOR

_running: list[OmnisciServer] = []


def use_omnisci(request: pytest.FixtureRequest) -> None:
    _running[:] = [request.getfixturevalue("omnisci")]


def running_omnisci() -> OmnisciServer:
    """Return the server that is in use."""
    return _running[0]


def stream_into_omnisci(home: Path, **options: Any) -> Stream2Omnisci:
    return Stream2Omnisci(**{"name": COLLECTOR, "home": home, **_running[0].reach.options, **options})


def omnisci_rows(home: Path) -> list[dict[str, Any]]:
    """Return what the client's own connection reads, under the column names that were put."""
    found = _running[0].reach.rows(f"{COLLECTOR}_stream")
    return [{name.removesuffix("_t"): value for name, value in row.items()} for row in found]


def omnisci_columns(names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Return all or some columns of the table, read with the client's own cursor; empty if there is no table."""
    table = f"{COLLECTOR}_stream"
    reach = _running[0].reach
    if names is None:
        names = [name.removesuffix("_t") for name in reach.columns(table)]
    if not names:
        return {}
    listed = ", ".join(f'"{name}_t"' for name in names)
    rows = reach.execute(f'SELECT {listed} FROM "{table}" ORDER BY rowid')
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}
