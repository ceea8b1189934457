"""What reaches a log file."""

import logging
import sys

from api2db.app.logs import MaskedFormatter


def test_a_traceback_loses_its_secrets_and_nothing_else() -> None:
    try:
        raise OSError("no route to postgresql://me:hunter2@db.example.org/rows")
    except OSError:
        record = logging.LogRecord("api2db", logging.ERROR, __file__, 1, "it failed", (), sys.exc_info())
    line = MaskedFormatter("%(message)s").format(record)
    assert "hunter2" not in line
    assert "Traceback" in line
    assert "postgresql://***@db.example.org/rows" in line
