"""Where a table is, with the options to reach it, and the errors of the library without secrets."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from api2db.errors import Api2dbError, TargetUnavailableError, from_extra, module_from_extra
from api2db.texts import redact

_MASK = "***"
_SHORTEST_SECRET = 4
# Values of options with these words are not secret; any other value is masked in messages.
_PUBLIC = ("type", "uri", "warehouse", "region", "endpoint", "impl", "name", "timeout", "anonymous")


@dataclass(frozen=True)
class CatalogPlace:
    """A table's place.

    Attributes:
        namespace: The parts of its namespace.
        table: Its name there.
        name: The place for display.
        options: The catalogue's properties; may hold secrets.
        file: The file of the catalogue, if it is one of api2db's own.
    """

    namespace: tuple[str, ...]
    table: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    file: Path | None = None

    @property
    def folder(self) -> Path | None:
        """The folder of our own catalogue, in which the tables are too."""
        return None if self.file is None else self.file.parent

    @property
    def identifier(self) -> tuple[str, ...]:
        """The table's name with its namespace."""
        return *self.namespace, self.table

    def said(self, error: BaseException) -> str:
        """The first line of an error, without secrets."""
        text = str(error).partition("\n")[0].strip() or type(error).__name__
        for name, value in self.options.items():
            if len(value) >= _SHORTEST_SECRET and not any(part in name.lower() for part in _PUBLIC):
                text = text.replace(value, _MASK)
        return redact(text)


@contextmanager
def sorted_errors(place: CatalogPlace) -> Iterator[None]:
    """Raise the library's errors, and those of what it uses, as TargetUnavailableError."""
    try:
        yield
    except Api2dbError:
        raise
    except _known_errors() as error:
        raise TargetUnavailableError(f"{place.name} can't be reached: {place.said(error)}") from None


def library(module: str = "") -> Any:
    """The module pyiceberg, or one in it.

    Raises:
        MissingExtraError: It is not installed.
    """
    return module_from_extra("pyiceberg", "iceberg", module)


@cache
def _known_errors() -> tuple[type[Exception], ...]:
    """What the library raises: errors without a common base, also of SQLAlchemy and of the client of HTTP."""
    with from_extra("sqlalchemy", "iceberg"):
        from sqlalchemy.exc import SQLAlchemyError
    own = vars(library("exceptions")).values()
    errors = [found for found in own if isinstance(found, type) and issubclass(found, Exception)]
    return (*errors, SQLAlchemyError, OSError, ValueError, RuntimeError, KeyError, NotImplementedError)
