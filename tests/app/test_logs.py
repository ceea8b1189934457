"""What reaches a log file."""

import json
import logging
import sys

import pytest

from api2db.app.logs import JsonFormatter, MaskedFormatter


def test_a_traceback_loses_its_secrets_and_nothing_else() -> None:
    try:
        raise OSError("no route to postgresql://me:hunter2@db.example.org/rows")
    except OSError:
        record = logging.LogRecord("api2db", logging.ERROR, __file__, 1, "it failed", (), sys.exc_info())
    line = MaskedFormatter("%(message)s").format(record)
    assert "hunter2" not in line
    assert "Traceback" in line
    assert "postgresql://***@db.example.org/rows" in line


@pytest.mark.parametrize(
    ("thread", "worked_for"),
    [
        ("api2db-poll-cities-of-x", {"collector": "cities-of-x"}),
        ("api2db-store-cities", {"collector": "cities"}),
        ("api2db-cities-of-x-sql.duckdb", {"collector": "cities-of-x", "stream_type": "sql.duckdb"}),
        ("api2db-cities-local", {"collector": "cities", "stream_type": "local"}),
        ("MainThread", {}),
    ],
)
def test_a_line_of_json_has_what_was_worked_for_and_no_secret(thread: str, worked_for: dict[str, str]) -> None:
    try:
        raise OSError("no route to postgresql://me:hunter2@db.example.org/rows")
    except OSError:
        record = logging.LogRecord("api2db.x", logging.ERROR, __file__, 1, "it\nfailed: %s", ("why",), sys.exc_info())
    record.threadName = thread
    line = JsonFormatter().format(record)
    assert "hunter2" not in line
    assert "\n" not in line
    said = json.loads(line)
    assert (said["message"], said["level"], said["logger"]) == ("it\nfailed: why", "ERROR", "api2db.x")
    assert "Traceback" in said["traceback"]
    assert {name: said[name] for name in ("collector", "stream_type") if name in said} == worked_for
    assert said["at"].endswith("+00:00")
