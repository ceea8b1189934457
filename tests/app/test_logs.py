"""What reaches a log file."""

import json
import logging
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from api2db.app import logs
from api2db.app.logs import JsonFormatter, MaskedFormatter
from api2db.app.screen import ConsoleHandler
from api2db.tracing import log_fields


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


def test_log_files_are_rotated_bounded_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FILE_BYTES", 2_000)
    monkeypatch.setenv(logs.FORMAT_VARIABLE, "json")
    logger = logging.getLogger("api2db")
    before = list(logger.handlers)
    logs.log_to_file(tmp_path, "run")
    try:
        with log_fields(collector="cities", stream="duckdb:x#cities", frame="17"):
            for number in range(100):
                logger.warning("line %d", number)
    finally:
        for handler in set(logger.handlers) - set(before):
            logger.removeHandler(handler)
            handler.close()
    files = sorted((tmp_path / "LOGS").iterdir())
    assert [file.name for file in files] == ["run.log", "run.log.1", "run.log.2"]
    assert all(file.stat().st_size <= 2_000 and file.stat().st_mode & 0o777 == 0o600 for file in files)
    said = json.loads(files[0].read_text().splitlines()[-1])
    assert (said["message"], said["collector"], said["stream"], said["frame"]) == (
        "line 99",
        "cities",
        "duckdb:x#cities",
        "17",
    )


def test_a_line_on_a_console_that_is_no_terminal_stays_one_line() -> None:
    written = StringIO()
    record = logging.LogRecord("api2db.app", logging.WARNING, "", 0, f"first {'x' * 100} last", None, None)
    ConsoleHandler(Console(file=written, width=80)).handle(record)
    assert written.getvalue() == f"{record.msg}\n"
