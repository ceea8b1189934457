"""Addresses of folders in object stores, with the options to reach them, and the library's errors without secrets."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from api2db.errors import ConfigurationError, TargetUnavailableError, module_from_extra
from api2db.texts import without_secrets

_S3A = "s3a://"  # Hadoop's name of s3://
SCHEMES = ("s3", "s3a", "az", "azure", "abfs", "abfss", "adl", "gs")
_PUT_OPTIONS = ("aws_conditional_put", "conditional_put")
# Options of the HTTP client, which the library takes apart from those of the store.
_CLIENT_OPTIONS = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "http1_only",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "randomize_addresses",
        "read_timeout",
        "root_certificate",
        "timeout",
        "user_agent",
    }
)
# The worker of a stream retries by itself, and says why it waits.
_RETRIES = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
_COPIES_IF_NEW = {"aws_copy_if_not_exists": "multipart"}
_CODE = re.compile(r"<Code>(\w+)</Code>")
_UNKNOWN = re.compile(r"Configuration key: '?([\w.-]+)'? is not valid")
_PREFIX = re.compile(r"(?:aws|azure|google)_")
_ADVICE = {
    "NoSuchBucket": "there is no such bucket; create it, or correct the address",
    "AccessDenied": "the credentials lack a right: to list, read, write and delete objects there",
    "InvalidAccessKeyId": "the access key is unknown; correct it",
    "SignatureDoesNotMatch": "the secret key is wrong; correct it",
    "ExpiredToken": "the session token has expired; renew it",
    "ContainerNotFound": "there is no such container; create it, or correct the address",
    "AuthenticationFailed": "the account's key or token is wrong; correct it",
    "AuthorizationFailure": "the account's key is wrong, or lacks a right: to list, read, write and delete objects",
}


@dataclass(frozen=True)
class Address:
    """A folder in an object store.

    Attributes:
        url: Its address, such as ``s3://bucket/folder``; contains no secret.
        options: What the library needs to reach it; may hold secrets.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def checked(cls, said: str, options: Mapping[str, str], what: str) -> "Address":
        """Check an address.

        Args:
            said: The address.
            options: The options.
            what: The argument that it was given as.

        Raises:
            ConfigurationError: It is not one, it has a password, or an option lets writers overwrite each other.
        """
        parts = urlsplit(said)
        if "\0" in said or parts.scheme not in SCHEMES or not parts.netloc:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise ConfigurationError(f"{what} must be a path, or an address that begins with one of {known}")
        if parts.password is not None or parts.query or parts.fragment:
            raise ConfigurationError(
                f"{what} must hold no password and no query; give secrets as storage_options or auth_path"
            )
        _check_put(options)
        url = said.rstrip("/")
        return cls(f"s3://{url.removeprefix(_S3A)}" if url.startswith(_S3A) else url, options)

    @property
    def parent(self) -> "Address":
        """The folder above."""
        return Address(self.url.rpartition("/")[0], self.options)

    @property
    def name(self) -> str:
        """The last part of the address; empty for a bucket itself."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @cached_property
    def store(self) -> Any:
        """The library's store for it; no request is made."""
        client: dict[str, Any] = {"timeout": "120s", "connect_timeout": "5s", **_client_options(os.environ)}
        client |= _client_options(self.options)
        config = dict(_COPIES_IF_NEW) if self.url.startswith("s3") else {}
        config |= {name.lower(): value for name, value in self.options.items() if _plain(name) not in _CLIENT_OPTIONS}
        with self.sorted_errors():
            return library("store").from_url(self.url, config=config, client_options=client, retry_config=_RETRIES)

    @contextmanager
    def sorted_errors(self) -> Iterator[None]:
        """Raise the library's errors as those of api2db; FileNotFoundError and FileExistsError pass through.

        Raises:
            FileExistsError: An object has the name.
            FileNotFoundError: There is no such object.
            TargetUnavailableError: Everything else, as one line without secrets.
        """
        errors = library("exceptions")
        try:
            yield
        except errors.AlreadyExistsError as error:
            raise FileExistsError(self.said(error)) from None
        except FileNotFoundError as error:
            if any(code in str(error) for code in ("NoSuchBucket", "ContainerNotFound")):
                raise TargetUnavailableError(f"{self.url} can't be reached: {self.said(error)}") from None
            raise FileNotFoundError(self.said(error)) from None
        except (errors.BaseError, OSError, TypeError, ValueError) as error:
            raise TargetUnavailableError(f"{self.url} can't be reached: {self.said(error)}") from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # how the library ends on a fault of its own
                raise
            raise TargetUnavailableError(f"{self.url}: the library obstore failed: {self.said(error)}") from None

    def said(self, error: BaseException) -> str:
        """An error on one line, without secrets, with what to do if that is known."""
        text = str(error)
        if unknown := _UNKNOWN.search(text):
            return f"storage_options has {unknown[1]}, which is no option of this kind of store; take it out"
        if "builder error" in text:
            return "the endpoint is http:// and not https://; if that is meant, set AWS_ALLOW_HTTP to true"
        first = text.partition("\n")[0].partition(": <")[0].strip() or type(error).__name__
        if found := _CODE.search(text):
            first = f"{first} ({found[1]})"
            first = f"{_ADVICE[found[1]]}: {first}" if found[1] in _ADVICE else first
        return without_secrets(first, self.options)


def is_address(place: object) -> bool:
    """Whether a place is given as an address rather than a path."""
    return isinstance(place, str) and "://" in place


def library(module: str = "") -> Any:
    """The module obstore, or one in it.

    Raises:
        MissingExtraError: It is not installed.
    """
    return module_from_extra("obstore", "objects", module)


def _client_options(options: Mapping[str, str]) -> dict[str, str]:
    """The options of the HTTP client; from the environment too, which the library reads only for the store's own."""
    found = {name: value for name, value in options.items() if _PREFIX.match(name.lower()) or options is not os.environ}
    return {_plain(name): value for name, value in found.items() if _plain(name) in _CLIENT_OPTIONS}


def _plain(name: str) -> str:
    return _PREFIX.sub("", name.lower(), count=1)


def _check_put(options: Mapping[str, str]) -> None:
    """Refuse an option by which one writer could overwrite what another has written."""
    said = {name.lower(): value.lower() for name, value in {**os.environ, **options}.items()}
    if any(said.get(name, "").startswith("disabled") for name in _PUT_OPTIONS):
        raise ConfigurationError(
            f"{_PUT_OPTIONS[0]} is disabled, so that writers could overwrite each other's commits; leave it out"
        )
