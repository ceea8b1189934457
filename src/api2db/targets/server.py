"""The description of a database server; no ``repr`` shows a secret."""

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

from api2db.errors import TargetUnavailableError

TlsMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
TLS_MODES: tuple[TlsMode, ...] = ("disable", "prefer", "require", "verify-ca", "verify-full")


class Password:
    """Supplies the password; no ``repr`` shows it.

    Args:
        ask: Called at each connect, because a token expires.
        known_by: What makes two passwords equal; by default a password only equals itself.
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
        """The current password.

        Raises:
            TargetUnavailableError: There is no password at the moment.
            MissingExtraError: The library that makes the password is not installed.
        """
        self._last = self._ask()
        return self._last

    def __repr__(self) -> str:
        return "Password(***)"

    def removed_from(self, text: str) -> str:
        """A text without the password that was supplied last."""
        return text.replace(self._last, "***") if self._last else text


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection is encrypted, in libpq's terms.

    Attributes:
        mode: ``prefer``: if the server supports it; ``require``: always; ``verify-ca``: and ``ca`` signed the
            certificate; ``verify-full``: and the certificate is the host's.
        ca: The file of the authority's certificate; without it ``verify-full`` uses the system's authorities.
        cert: The file of the client's certificate.
        key: The file of the client's key, unless ``cert`` contains it.
    """

    mode: TlsMode = "prefer"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def require_files(self) -> None:
        """Check that the files can be read: without its certificate, libpq would log in as somebody else.

        Raises:
            TargetUnavailableError: One cannot be read.
        """
        for path in filter(None, (self.ca, self.cert, self.key)):
            if not os.access(path, os.R_OK):
                raise TargetUnavailableError(f"the file {path} of tls can't be read; put it there, or name another one")


@dataclass(frozen=True, slots=True)
class Server:
    """A database on a server, and the user who connects.

    Attributes:
        password: Asked for at each connect.
    """

    host: str
    port: int
    username: str
    database: str
    password: Password
    tls: Tls = field(default_factory=Tls)

    @property
    def place(self) -> str:
        """Its address, for messages."""
        return f"{self.host}:{self.port}/{self.database}"

    def database_missing(self, error: Any, right: str) -> TargetUnavailableError:
        """The error of a driver for a missing database that can't be created.

        Args:
            right: What the user lacks for that.
        """
        said = self.without_secret(error)
        return TargetUnavailableError(
            f"the database {self.database} is missing and can't be created: {said}; create it, or grant {right}"
        )

    def without_secret(self, text: Any) -> str:
        """A driver's message in one line, without the password."""
        return self.password.removed_from(" ".join(str(text).split()))
