"""What it takes to reach a database server; whoever prints it sees no secret."""

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

from api2db.errors import TargetUnavailableError

TlsMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
TLS_MODES: tuple[TlsMode, ...] = ("disable", "prefer", "require", "verify-ca", "verify-full")


class Password:
    """Gives the password; no ``repr`` shows it.

    Args:
        ask: Called at each connect, since a token expires.
        known_by: What makes two passwords equal; by default each is equal to itself alone.
    """

    __slots__ = ("_ask", "_known_by", "_last")

    def __init__(self, ask: Callable[[], str], known_by: Hashable = None) -> None:
        self._ask = ask
        self._known_by = id(self) if known_by is None else known_by
        self._last = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Password) and other._known_by == self._known_by

    def __hash__(self) -> int:
        return hash(self._known_by)

    def __call__(self) -> str:
        """The password as of now.

        Raises:
            TargetUnavailableError: There is none at the moment.
            MissingExtraError: The library that makes it is not installed.
        """
        self._last = self._ask()
        return self._last

    def __repr__(self) -> str:
        return "Password(***)"

    def blotted_in(self, text: str) -> str:
        """A text without the password that was given last."""
        return text.replace(self._last, "***") if self._last else text


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection is encrypted, in libpq's words.

    Attributes:
        mode: ``prefer``: where the server can; ``require``: always; ``verify-ca``: and the certificate is signed by
            ``ca``; ``verify-full``: and it is the host's.
        ca: The file of the authority's certificate; without it ``verify-full`` takes the system's authorities.
        cert: The file of the client's certificate.
        key: The file of the client's key, where ``cert`` has it not.
    """

    mode: TlsMode = "prefer"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def require_files(self) -> None:
        """See that the files are there: without its certificate libpq would go on as somebody else.

        Raises:
            TargetUnavailableError: One can't be read.
        """
        for path in filter(None, (self.ca, self.cert, self.key)):
            if not os.access(path, os.R_OK):
                raise TargetUnavailableError(f"{path}, which tls names, can't be read; put it there, or name another")


@dataclass(frozen=True, slots=True)
class Server:
    """A database on a server, and who asks for it.

    Attributes:
        password: Asked anew at each connect.
    """

    host: str
    port: int
    username: str
    database: str
    password: Password
    tls: Tls = field(default_factory=Tls)

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.host}:{self.port}/{self.database}"

    def without_secret(self, text: Any) -> str:
        """A driver's message in one line, with the password blotted out should it be in there."""
        return self.password.blotted_in(" ".join(str(text).split()))
