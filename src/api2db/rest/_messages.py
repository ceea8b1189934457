"""Requests to an API and their responses, what bounds them, and what counts them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from api2db.errors import PollError
from api2db.rest._arguments import Rate
from api2db.rest._lines import Lines

TRIES: Final = 5


@dataclass(frozen=True)
class Limits:
    """What bounds the calls to one API; see RestApi."""

    rates: tuple[Rate, ...] = ()
    connect_s: float = 10.0
    read_s: float = 30.0
    poll_s: float = 3600.0
    response_bytes: int = 64 * 10**6
    decompressed_bytes: int = 256 * 10**6
    depth: int = 100
    tries: int = TRIES
    allow_private: bool | None = None


@dataclass(frozen=True)
class Request:
    """One call, without authentication.

    Attributes:
        json: The body of a POST, encoded already.
        in_lines: Whether the body of a 2xx response is left to be read as lines.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    json: bytes | None = None
    in_lines: bool = False


@dataclass(frozen=True)
class Response:
    """What came back.

    Attributes:
        url: Where it came from, after redirects.
        headers: Their names in lower case.
        lines: The body, where it is read in pieces.
        scrub: Hides the secrets that the poll has sent, in a text that is shown.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes
    lines: Lines | None = None
    scrub: Callable[[str], str] = field(default=str, repr=False, compare=False)


@dataclass
class Figures:
    """Counts of a resource since its process was started."""

    calls: int = 0
    not_modified: int = 0
    retried: int = 0
    waited_s: float = 0.0
    rows_new: int = 0
    rows_repeated: int = 0
    rows_rejected: int = 0
    rows_without_cursor: int = 0


class PermanentStatusError(PollError):
    """A status that another try will not change."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type["PermanentStatusError"], tuple[str, int]]:
        return type(self), (str(self), self.status)
