"""The address of a cluster, as ``--cluster`` and API2DB_CLUSTER give it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from api2db.errors import ConfigurationError

VARIABLE: Final = "API2DB_CLUSTER"
_FORM: Final = "nats://host:port,host:port,host:port[/project][?creds=FILE&ca=FILE]"
_FILES: Final = ("ca", "cert", "creds", "key", "nkey")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_MOST_REPLICAS: Final = 5


@dataclass(frozen=True, slots=True)
class Address:
    """Where the servers of a cluster are, and the files with which to sign in.

    Attributes:
        text: As it was given. It holds no secret: secrets are in the files that it names.
        servers: One URL for each server.
        project: The part of all names that keeps the projects of a cluster apart.
        replicas: How many servers keep each message.
        files: The files for TLS and for signing in: ``ca``, ``cert``, ``key``, ``creds``, ``nkey``.
    """

    text: str
    servers: tuple[str, ...]
    project: str
    replicas: int
    files: dict[str, Path]

    @property
    def uses_tls(self) -> bool:
        """Whether the connection must be encrypted."""
        return self.servers[0].startswith("tls:") or "ca" in self.files


def parse_address(text: str, home: Path) -> Address:
    """Parse an address; its files are relative to the project's folder.

    Raises:
        ConfigurationError: It is none, it holds a secret, or one of its files is missing.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in {"nats", "tls"}:
        raise ConfigurationError(f"the address of a cluster has the form {_FORM}")
    if "@" in rest:
        raise ConfigurationError(
            "the address of a cluster holds a user or a password, which every process list shows; "
            "put them into a file and name it: ?creds=AUTH/nats.creds or ?nkey=AUTH/nats.nk"
        )
    parts = urlsplit(f"//{rest}")
    hosts = [host for host in parts.netloc.split(",") if host]
    project = parts.path.strip("/") or "api2db"
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - {*_FILES, "replicas"})
    if not hosts or not _NAME.fullmatch(project) or unknown:
        said = f"; unknown: {', '.join(unknown)}" if unknown else ""
        raise ConfigurationError(f"the address of a cluster has the form {_FORM}{said}")
    files: dict[str, Path] = {name: home / options[name] for name in _FILES if name in options}
    for name, file in files.items():
        if not file.is_file():
            raise ConfigurationError(f"{name}= of the cluster's address names {file}, which is not a file")
    return Address(text, tuple(f"{scheme}://{host}" for host in hosts), project, _replicas(options), files)


def _replicas(options: dict[str, str]) -> int:
    said = options.get("replicas", "3")
    if not said.isdigit() or not 1 <= int(said) <= _MOST_REPLICAS:
        raise ConfigurationError(f"replicas= of the cluster's address is {said!r}; give 3 or 5, or 1 for a trial")
    return int(said)
