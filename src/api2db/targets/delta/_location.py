"""Where a table is, with the options to reach it, and the errors of the library without secrets."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api2db.errors import BatchRefusedError, LedgerMovedError, TargetUnavailableError, module_from_extra
from api2db.texts import without_secrets

_MOVED = "Concurrent transaction failed"
_REFUSED = "Invalid data found"


@dataclass(frozen=True)
class TableLocation:
    """A table's place.

    Attributes:
        uri: The folder's path, or its address in an object store.
        name: The place for display.
        options: What the library needs to reach an object store; may hold secrets.
        folder: The folder, if it is on a disk.
    """

    uri: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    folder: Path | None = None

    @property
    def library_options(self) -> dict[str, str] | None:
        """The options as the library takes them."""
        return dict(self.options) or None

    def said(self, error: BaseException) -> str:
        """The first lines of an error, without secrets."""
        return without_secrets(str(error).partition("\n")[0].strip() or type(error).__name__, self.options)


@contextmanager
def sorted_errors(place: TableLocation) -> Iterator[None]:
    """Raise the library's errors as those of api2db.

    Raises:
        LedgerMovedError: Another commit carried the same transaction identifier.
        BatchRefusedError: A rule of the table forbids a row.
        TargetUnavailableError: Everything else.
    """
    errors = library("exceptions")
    try:
        yield
    except errors.CommitFailedError as error:
        if _MOVED in str(error):
            raise LedgerMovedError(f"somebody else wrote to {place.name} as this stream") from None
        raise TargetUnavailableError(f"{place.name}: {place.said(error)}") from None
    except errors.DeltaError as error:
        if _REFUSED in str(error):
            raise BatchRefusedError(
                f"{place.name} refuses rows: a NOT NULL or CHECK of the table forbids them"
            ) from None
        raise TargetUnavailableError(f"{place.name}: {place.said(error)}") from None
    except (OSError, ValueError) as error:
        raise TargetUnavailableError(f"{place.name} can't be reached: {place.said(error)}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # how the library ends on a fault of its own
            raise
        raise TargetUnavailableError(f"{place.name}: the library deltalake failed: {place.said(error)}") from None


def library(name: str = "") -> Any:
    """The module deltalake, or what it has under a name.

    Raises:
        MissingExtraError: It is not installed.
    """
    deltalake = module_from_extra("deltalake", "delta")
    return getattr(deltalake, name) if name else deltalake
