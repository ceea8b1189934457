"""What a collector takes, and what it refuses, before anything is opened."""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api2db.errors import ConfigurationError, InvalidNameError
from api2db.ingest import Collector, registered
from api2db.ingest._collector import takes_state
from tests.ingest.tiny import TinyStream


def nothing() -> None:
    return None


def collector(**changes: Any) -> Collector:
    given: dict[str, Any] = {"name": "cities", "seconds": 1, "import_target": nothing, "streams": []}
    return Collector(**(given | changes))


def test_making_a_collector_opens_nothing(tmp_path: Path) -> None:
    before = threading.active_count()
    collector(streams=[TinyStream("cities", home=tmp_path / "home")], home=tmp_path / "home")
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() <= before


def test_a_collector_is_found_by_its_name_whatever_variable_holds_it() -> None:
    made = collector(name="found_by_name")
    assert registered()["found_by_name"] is made


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\0b", 3])
def test_a_name_that_could_leave_its_folder_is_refused(name: object) -> None:
    with pytest.raises(InvalidNameError):
        collector(name=name)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seconds": -1}, "seconds of collector cities is -1"),
        ({"seconds": "5"}, "seconds of collector cities is '5'"),
        ({"seconds": True}, "is True"),
        ({"seconds": float("nan")}, "is nan"),
        ({"poll_timeout": 0}, "poll_timeout of collector cities is 0"),
        ({"import_target": [1]}, "import_target of collector cities is of type list"),
        ({"import_target": lambda a, b: None}, "called with no argument, or with state alone"),
        ({"transform": "upper"}, "transform of collector cities is of type str"),
        ({"streams": None}, "streams of collector cities is of type NoneType"),
        ({"streams": "duckdb"}, "streams of collector cities is of type str"),
        ({"streams": [TinyStream]}, "is the class TinyStream"),
        ({"streams": [object()]}, "not one of the streams"),
        ({"streams": [TinyStream("towns", home=Path())]}, "streams have the collector's name"),
        ({"stores": [object()]}, "not one of the stores"),
    ],
)
def test_a_wrong_argument_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        collector(**changes)


def test_an_async_transform_is_refused() -> None:
    async def transform(df: Any) -> Any: ...

    with pytest.raises(ConfigurationError, match=r"transform .* is async"):
        collector(transform=transform)


@pytest.mark.parametrize(
    ("target", "takes"),
    [
        (nothing, False),
        (lambda state: state, True),
        (lambda cursor: cursor, True),
        (lambda state=None: state, True),
        (lambda limit=5: limit, False),
        (partial(lambda url, state: (url, state), "http://localhost"), True),
        (partial(lambda url: url, "http://localhost"), False),
    ],
    ids=["none", "state", "other name", "optional state", "optional limit", "partial", "partial, bound"],
)
def test_a_function_that_takes_an_argument_is_given_the_state(target: Any, takes: bool) -> None:  # noqa: FBT001
    assert takes_state(target, "cities") is takes
