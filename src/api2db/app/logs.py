"""Where log lines go: to a rotating file a process in LOGS/, and to a console."""

import logging
import logging.handlers
import os
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from api2db.formats.atomic import FILE_MODE, make_folders
from api2db.redaction import redact

__all__ = ["MaskedFormatter", "is_set_up", "log_to_console", "log_to_file"]

_FILE_BYTES: Final = 5 << 20
_FILES: Final = 3
_LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class MaskedFormatter(logging.Formatter):
    """Formats a record, tracebacks included, without the secrets that foreign errors carry."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        return redact(super().format(record))


class _PrivateFile(logging.handlers.RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        os.close(os.open(self.baseFilename, os.O_CREAT | os.O_APPEND, FILE_MODE))
        return super()._open()


def is_set_up() -> bool:
    """Whether somebody has decided already where api2db's log lines go."""
    logger = logging.getLogger("api2db")
    handlers = [*logger.handlers, *logging.getLogger().handlers]
    return any(not isinstance(handler, logging.NullHandler) for handler in handlers)


def log_to_file(home: Path, process: str) -> None:
    """Write what api2db logs to ``LOGS/<process>.log``: three files of 5 MB at most, readable by their owner alone."""
    make_folders(home / "LOGS")
    handler = _PrivateFile(home / "LOGS" / f"{process}.log", maxBytes=_FILE_BYTES, backupCount=_FILES - 1)
    _add(handler, logging.INFO, _LINE)


def log_to_console(level: int, handler: logging.Handler | None = None) -> None:
    """Write it to stderr, or where a handler does."""
    _add(handler or logging.StreamHandler(), level, "%(levelname)s %(message)s" if handler is None else "%(message)s")


def _add(handler: logging.Handler, level: int, line: str) -> None:
    handler.setLevel(level)
    handler.setFormatter(MaskedFormatter(line))
    logger = logging.getLogger("api2db")
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, logger.level or logging.INFO))
