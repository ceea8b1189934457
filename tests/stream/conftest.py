"""Fixtures for tests that run on every database: the dialect, and streams that are stopped at the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api2db import Stream2Sql
from tests.stream.databases import DIALECTS, Make, stream_into, use


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return use(str(request.param), request)


@pytest.fixture
def make(tmp_path: Path, dialect: str) -> Iterator[Make]:
    made: list[Stream2Sql] = []

    def make(**options: Any) -> Stream2Sql:
        made.append(stream_into(dialect, tmp_path, **options))
        return made[-1]

    yield make
    for stream in made:
        stream.stop()
