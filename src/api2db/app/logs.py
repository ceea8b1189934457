"""Log handlers: a rotating file for each process in LOGS/, and a console."""

import logging
import logging.handlers
import os
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from api2db.disk.atomic import FILE_MODE, make_folders
from api2db.redaction import redact

_FILE_BYTES: Final = 5 << 20
_FILES: Final = 3
_LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class MaskedFormatter(logging.Formatter):
    """Formats a record, including tracebacks, without the secrets that foreign errors contain."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return redact(super().format(record))


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
    _add(handler, logging.INFO, _LINE)


def log_to_console(level: int, handler: logging.Handler | None = None) -> None:
    """Log to stderr, or to another handler."""
    _add(handler or logging.StreamHandler(), level, "%(levelname)s %(message)s" if handler is None else "%(message)s")


def _add(handler: logging.Handler, level: int, line: str) -> None:
    handler.setLevel(level)
    handler.setFormatter(MaskedFormatter(line))
    logger = logging.getLogger("api2db")
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, logger.level or logging.INFO))
