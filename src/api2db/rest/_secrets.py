"""Secrets: values that are read when they are sent, and never shown.

A value is text, ``$NAME`` for an environment variable, or a ``SecretFile``. Text that begins with a dollar is written
with ``$$``.
"""

import base64
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import httpx2

from api2db.disk.folders import project_home
from api2db.errors import ConfigurationError
from api2db.rest._arguments import suggesting, text
from api2db.rest._urls import without_params

MASK: Final = "***"
_VARIABLE: Final = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_SHOWABLE: Final = re.compile(r"\$[A-Z][A-Z0-9_]*")
_OTHERS: Final = 0o077
_SHORTEST: Final = 4
_CREDIBLE: Final = 8
_NO_SECRETS: Final = frozenset({"host", "content-length", "content-type", "accept", "accept-encoding", "user-agent"})
_NO_WORD: Final = re.compile(r"[^A-Za-z0-9]+")


@suggesting
@dataclass(frozen=True)
class SecretFile:
    """A field of a JSON file below the project's ``AUTH/``. The file must be readable by its owner only.

    Args:
        file: The file's name, below ``AUTH/``.
        field: The field that holds the secret.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    file: str
    field: str

    def __post_init__(self) -> None:
        text(self.field, "field of SecretFile")
        path = Path(text(self.file, "file of SecretFile"))
        if path.is_absolute() or ".." in path.parts:
            raise ConfigurationError(f"SecretFile takes a file below AUTH/, not {self.file!r}")

    def read(self, what: str) -> str:
        """Return the secret.

        Raises:
            ConfigurationError: The file can't be read, others may read it, or it does not have the field.
        """
        path = project_home() / "AUTH" / self.file
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                said = json.load(file)
        except OSError as error:
            raise ConfigurationError(f"{what}: AUTH/{self.file} can't be read: {error.strerror}") from None
        except ValueError:
            raise ConfigurationError(f"{what}: AUTH/{self.file} is not JSON") from None
        if stat.S_IMODE(mode) & _OTHERS:
            raise ConfigurationError(f"{what}: others may read AUTH/{self.file}; run: chmod 600 AUTH/{self.file}")
        value = said.get(self.field) if isinstance(said, dict) else None
        if not isinstance(value, str):
            raise ConfigurationError(f"{what}: AUTH/{self.file} has no text under {self.field!r}")
        return value


SecretText = str | SecretFile


class Secret:
    """A secret that is read when it is sent. Its ``repr`` never shows it.

    Args:
        source: Text, ``$NAME``, or a SecretFile.
        what: The name of the argument, for messages.
    """

    def __init__(self, source: object, what: str) -> None:
        if not isinstance(source, (str, SecretFile)) or not source:
            raise ConfigurationError(
                f"{what} must be text, '$NAME' for an environment variable, or a SecretFile, "
                f"not of type {type(source).__name__}"
            )
        self._source = source
        self._what = what

    def __repr__(self) -> str:
        return MASK

    def __reduce__(self) -> tuple[type["Secret"], tuple[SecretText, str]]:
        raise TypeError(f"{self._what} is a secret and can't be pickled")

    def value(self) -> str:
        """Return the secret itself.

        Raises:
            ConfigurationError: Its variable or file can't be read, or an HTTP header can't hold it.
        """
        value = self._read()
        if not value or not value.isprintable() or not value.isascii():
            raise ConfigurationError(
                f"{self._what} is empty, or has a character that HTTP can't carry, such as a newline"
            )
        return value

    def _read(self) -> str:
        if isinstance(self._source, SecretFile):
            return self._source.read(self._what)
        if self._source.startswith("$$") or not _VARIABLE.fullmatch(self._source):
            return self._source.removeprefix("$") if self._source.startswith("$$") else self._source
        value = os.environ.get(self._source[1:])
        if value is None:
            # A password may begin with a dollar; only what looks like a variable's name is shown.
            name = self._source[1:] if _SHOWABLE.fullmatch(self._source) else "that it names"
            raise ConfigurationError(
                f"{self._what}: the environment variable {name} is not set; set it, or write $$ for a value that "
                "begins with $"
            )
        return value


def named_secrets(sources: object, what: str) -> dict[str, Secret]:
    """Return secrets by their names.

    Raises:
        ConfigurationError: They are not given as a dict of names, or one is not a secret.
    """
    if not isinstance(sources, Mapping) or not all(isinstance(name, str) for name in sources):
        raise ConfigurationError(f"{what} must be a dict such as {{'key': '$API_KEY'}}")
    return {name: Secret(source, f"{name!r} in {what}") for name, source in sources.items()}


def revealed(secrets: Mapping[str, object]) -> dict[str, str]:
    """Return the values of named secrets.

    Raises:
        ConfigurationError: One can't be read.
    """
    return {name: secret.value() for name, secret in secrets.items() if isinstance(secret, Secret)}


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Mask secrets in a text, including their forms in URLs, base64 and JSON."""
    forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


def holds_secret(text: str, secrets: Iterable[str]) -> bool:
    """Whether a text has a secret in it. A short word, which may be part of any other, counts only as a whole one."""
    words = set(_NO_WORD.split(text))
    return any(
        secret in words if len(secret) < _CREDIBLE and secret.isalnum() else scrub(text, [secret]) != text
        for secret in secrets
        if len(secret) >= _SHORTEST
    )


def _forms(secret: str) -> Iterable[str]:
    yield from (secret, quote(secret, safe=""), quote_plus(secret))
    yield base64.b64encode(secret.encode()).decode()
    yield json.dumps(secret)[1:-1]


class SentSecrets:
    """The secrets that a poll has sent: they are hidden in texts that are shown, and go to no other host."""

    def __init__(self) -> None:
        self._params: set[str] = set()
        self._secrets: set[str] = set()

    def add(self, secrets: Iterable[str]) -> None:
        """Take note of secrets that are sent."""
        self._secrets.update(filter(None, secrets))

    def scrub(self, text: str) -> str:
        """Hide them in a text."""
        return scrub(text, self._secrets)

    def holds_secret(self, text: str) -> bool:
        """Whether a text has one of them in it."""
        return holds_secret(text, self._secrets)

    def note_changes(self, prepared: httpx2.Request, sent: httpx2.Request) -> None:
        """Take every header and parameter that an authentication of httpx2 has added or changed for a secret."""
        for name, value in sent.headers.items():
            if name not in _NO_SECRETS and prepared.headers.get(name) != value:
                self._secrets.update({value, *value.split()[1:]})
        before = set(prepared.url.params.multi_items())
        for name, value in sent.url.params.multi_items():
            if (name, value) not in before and value:
                self._secrets.add(value)
                self._params.add(name)

    def without(self, url: str, params: Collection[str]) -> str:
        """Return a URL for another host without secret parameters, which a redirect or a link may repeat.

        Args:
            url: The URL.
            params: The names of further parameters that are secret.
        """
        names, query = {*self._params, *params}, urlsplit(url).query
        holders = {name for name, value in parse_qsl(query) if name in names or value in self._secrets}
        return without_params(url, frozenset(holders))
