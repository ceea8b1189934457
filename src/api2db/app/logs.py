"""Log handlers: a rotating file for each process in LOGS/, as text or as JSON, and a console."""

import json
import logging
import logging.handlers
import os
import re
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

from api2db.disk.atomic import FILE_MODE, make_folders
from api2db.texts import redact
from api2db.tracing import current_log_fields

_FILE_BYTES: Final = 5 << 20
_FILES: Final = 3
FORMAT_VARIABLE: Final = "API2DB_LOG_FORMAT"
_OF_COLLECTOR: Final = re.compile(r"api2db-(?:poll|store|backfill)-(.+)")
_OF_STREAM: Final = re.compile(r"api2db-(.+)-((?:sql\.)?[a-z0-9_]+)")
_LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class MaskedFormatter(logging.Formatter):
    """Formats a record, including tracebacks, without the secrets that foreign errors contain."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return redact(super().format(record))


class JsonFormatter(MaskedFormatter):
    """Formats a record as one line of JSON, for collectors of logs.

    Its fields: ``at`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, ``pid``, and where they apply ``collector``,
    ``stream``, ``stream_type``, ``frame`` and ``traceback``. ``stream`` is the stream's identity. ``frame`` is the time
    at which the first frame of the batch at hand was put, nanoseconds since 1970; it also names files of rejected rows.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
            "pid": record.process,
            **_worked_for(record.threadName or ""),
            **current_log_fields(),
        }
        if record.exc_info:
            said["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(said, ensure_ascii=False)


def _worked_for(thread_name: str) -> dict[str, str]:
    """Read the name of a thread: ``api2db-poll-NAME``, ``api2db-store-NAME`` or ``api2db-NAME-STREAM_TYPE``."""
    if (match := _OF_COLLECTOR.fullmatch(thread_name)) is not None:
        return {"collector": match[1]}
    if (match := _OF_STREAM.fullmatch(thread_name)) is not None:
        return {"collector": match[1], "stream_type": match[2]}
    return {}


class _PrivateFile(logging.handlers.RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        os.close(os.open(self.baseFilename, os.O_CREAT | os.O_APPEND, FILE_MODE))
        return super()._open()


def is_set_up() -> bool:
    """Whether api2db's logger has handlers already."""
    logger = logging.getLogger("api2db")
    handlers = [*logger.handlers, *logging.getLogger().handlers]
    return any(not isinstance(handler, logging.NullHandler) for handler in handlers)


def log_to_file(home: Path, process: str) -> None:
    """Log to ``LOGS/<process>.log``: three files of at most 5 MB, readable by their owner only."""
    make_folders(home / "LOGS")
    handler = _PrivateFile(home / "LOGS" / f"{process}.log", maxBytes=_FILE_BYTES, backupCount=_FILES - 1)
    as_json = os.environ.get(FORMAT_VARIABLE) == "json"
    _add(handler, logging.INFO, JsonFormatter() if as_json else MaskedFormatter(_LINE))


def log_to_console(level: int, handler: logging.Handler | None = None) -> None:
    """Log to stderr, or to another handler."""
    line = "%(levelname)s %(message)s" if handler is None else "%(message)s"
    _add(handler or logging.StreamHandler(), level, MaskedFormatter(line))


def _add(handler: logging.Handler, level: int, formatter: logging.Formatter) -> None:
    handler.setLevel(level)
    handler.setFormatter(formatter)
    logger = logging.getLogger("api2db")
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, logger.level or logging.INFO))
