"""The HeavyDB of the tests as one more way that rows can go."""

from pathlib import Path
from typing import Any

import pytest

from api2db import Stream2Omnisci
from tests.servers.omnisci import OmnisciServer
from tests.stream.databases import COLLECTOR

_running: list[OmnisciServer] = []


def use_omnisci(request: pytest.FixtureRequest) -> None:
    _running[:] = [request.getfixturevalue("omnisci")]


def stream_into_omnisci(home: Path, **options: Any) -> Stream2Omnisci:
    return Stream2Omnisci(**{"name": COLLECTOR, "home": home, **_running[0].reach.options, **options})


def omnisci_rows(home: Path) -> list[dict[str, Any]]:
    """What the client's own connection reads, under the names that the columns had when they were put."""
    found = _running[0].reach.rows(f"{COLLECTOR}_stream")
    return [{name.removesuffix("_t"): value for name, value in row.items()} for row in found]
