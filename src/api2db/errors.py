"""Every error that api2db raises, sorted by what the caller must do.

    Api2dbError
    ├── ConfigurationError (ValueError)   fix the configuration
    │   ├── InvalidNameError              a name that can't be a folder, a table or a stream
    │   └── MissingExtraError             a library that an extra of api2db installs
    ├── DataError (ValueError)            fix the data
    │   ├── FrameError (TypeError)        what was put is not a frame, or can't be stored
    │   └── FormatError                   a file that can't be read or written in its format
    │       └── UnsafePickleError         a pickle that holds more than a DataFrame
    ├── FolderBusyError                   wait: somebody else composes or stores a folder of shards
    ├── JournalError                      look at the disk, or at who else uses it
    │   ├── JournalBusyError              another process, or a forked parent, owns the journal
    │   ├── JournalWriteError (OSError)   the disk refused; whether the put counts is unknown
    │   │   └── ClusterUnavailableError   the cluster that has the journal does not answer
    │   └── BacklogFullError (queue.Full) the quota of a stream is spent
    ├── TargetError                       a target did not take a batch
    │   ├── TargetUnavailableError        wait: it is down, busy, full, or refuses the password
    │   │   ├── ConnectionBrokenError     a connection that stood broke during a load
    │   │   ├── TableChangedError         somebody altered the table meanwhile
    │   │   └── LedgerMovedError          somebody else moved the ledger meanwhile
    │   ├── BatchRefusedError             it will not take these rows, whoever asks
    │   │   └── RowsRefusedError          it says which of them
    │   └── ForeignLedgerError            a copy of the project wrote to the ledger: a person must decide
    ├── StreamDiedError                   a worker ended by an unforeseen error, its cause
    └── PollError                         a poll of an API failed; the next tick tries again

Each message says what happened, to what, and the next step. None holds a secret.
"""

import queue
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any


class Api2dbError(Exception):
    """The root: catch it to catch everything that api2db raises on purpose."""


class ConfigurationError(Api2dbError, ValueError):
    """An argument, option or file that a person wrote can't be used as it is."""


class InvalidNameError(ConfigurationError):
    """A name that would leave its folder, or that no target could hold."""


class MissingExtraError(ConfigurationError, ImportError):
    """A library is not installed.

    Args:
        library: The name that failed to import.
        extra: The extra of api2db that installs it.
    """

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed; install it with: pip install 'api2db[{extra}]'")
        self.library = library
        self.extra = extra

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str]]:
        return type(self), (self.library, self.extra)


@contextmanager
def from_extra(library: str, extra: str) -> Iterator[None]:
    """Import a library that an extra installs, inside the block.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(library, extra) from error


def module_from_extra(library: str, extra: str, module: str = "") -> Any:
    """Return a library that an extra installs, or a module in it.

    Raises:
        MissingExtraError: It is not installed.
    """
    with from_extra(library, extra):
        return import_module(f"{library}.{module}" if module else library)


class DataError(Api2dbError, ValueError):
    """The data itself is at fault; putting it again will not help."""


class FrameError(DataError, TypeError):
    """What was put is not a frame, or can't be stored without loss."""


class FormatError(DataError):
    """A file can't be read or written in the format that was asked for."""


class UnsafePickleError(FormatError):
    """A pickle names something that is not part of a DataFrame; none of it was run."""


class FolderBusyError(Api2dbError):
    """Another process or thread is composing or storing this folder of shards right now."""


class JournalError(Api2dbError):
    """The journal can't do what was asked."""


class JournalBusyError(JournalError):
    """The journal has another owner: a second process, or the parent of a forked child."""


class JournalWriteError(JournalError, OSError):
    """The disk refused a write or an fsync: it is unknown whether the put counts."""


class ClusterUnavailableError(JournalWriteError):
    """The cluster does not answer: it is unknown whether a put counts, and nothing is read meanwhile."""


class BacklogFullError(JournalError, queue.Full):
    """A stream has as many bytes waiting as ``max_backlog_bytes`` allows."""


class TargetError(Api2dbError):
    """A target did not take a batch."""


class TargetUnavailableError(TargetError):
    """The target may take the same batch later: it is down, busy, full or locked."""


class ConnectionBrokenError(TargetUnavailableError):
    """A connection broke during a load; the batch itself may be the cause."""


class TableChangedError(TargetUnavailableError):
    """The table's columns differ from those that the rows were cast for."""


class LedgerMovedError(TargetUnavailableError):
    """The ledger is not where this stream left it."""


class BatchRefusedError(TargetError):
    """The target refuses these rows for themselves."""


class RowsRefusedError(BatchRefusedError):
    """The target refuses some of these rows, and says which.

    Args:
        reasons: The reason by the row's number in what was sent.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} rows are refused: {next(iter(reasons.values()), '')}")
        self.reasons = dict(reasons)

    def __reduce__(self) -> tuple[type["RowsRefusedError"], tuple[dict[int, str]]]:
        return type(self), (self.reasons,)


class ForeignLedgerError(TargetError):
    """The target's ledger was written by a copy of this project: delivery stops until a person decides."""


class StreamDiedError(Api2dbError):
    """A stream's worker ended by an unforeseen error; ``__cause__`` holds it."""


class PollError(Api2dbError):
    """A poll raised, took too long, or returned something that is not a frame."""
