"""The address of a database as a URL of SQLAlchemy; no ``repr`` and no message shows its secrets."""

import re
from dataclasses import dataclass

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from api2db.errors import ConfigurationError
from api2db.targets.server import Password

_SECRET = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)


def parsed_url(url: str | URL) -> URL:
    """Parse a URL that may have a password.

    Raises:
        ConfigurationError: It is none, or a part of the password stands where the host is; nothing of it is shown.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # their texts have the URL, or what follows a colon
        raise ConfigurationError("url is not a URL of SQLAlchemy: dialect+driver://user@host:port") from None
    if "@" in (parsed.host or ""):
        raise ConfigurationError("url has a second @ before its host; write an @ of the user or password as %40")
    return parsed


@dataclass(frozen=True, slots=True)
class Address:
    """A URL, and the password apart from it.

    Attributes:
        url: Without a password.
        password: Asked for at each connect; None for a login without one.
    """

    url: URL
    password: Password | None = None

    @property
    def place(self) -> str:
        """The address without user, password and options, for messages and for the stream's identity."""
        url = self.url
        host = "" if url.host is None else f"{url.host}:{url.port}" if url.port else url.host
        return f"{url.get_backend_name()}://{host}/{url.database or url.query.get('service_name', '')}"

    def __repr__(self) -> str:
        return f"Address({self.place})"

    def full(self) -> URL:
        """The URL with the current password."""
        return self.url if self.password is None else self.url.set(password=self.password())

    def without_secret(self, text: object) -> str:
        """A driver's message in one line, without the password and the secret options of the URL."""
        said = " ".join(str(text).split())
        if self.password is not None:
            said = self.password.removed_from(said)
        for name, value in self.url.query.items():
            for each in (value,) if isinstance(value, str) else value:
                said = said.replace(each, "***") if _SECRET.search(name) and each else said
        return said
