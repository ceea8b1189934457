"""Credentials of a database server, from arguments or from a file below ``AUTH/``."""

import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api2db.errors import ConfigurationError, TargetUnavailableError, from_extra
from api2db.targets.server import TLS_MODES, Password, Tls, TlsMode

# The templates of ``api2db init`` also name the database; a stream takes it from its own argument.
_FIELDS = ("db_name", "username", "password", "host", "port", "tls", "engine", "iam", "region")
_FROM_ENVIRONMENT = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_UNENCRYPTED = ("disable", "prefer")
_WORDS = {"true": True, "1": True, "false": False, "0": False, "": False}


@dataclass(frozen=True, slots=True)
class Credentials:
    """The login of a server; its ``repr`` contains no secret.

    Attributes:
        port: A number from 1 to 65535; empty for the default one.
        password_at: Returns the password for a port of the host.
        engine: For Amazon Aurora: ``"postgresql"`` or ``"mysql"``, if the port does not tell.
    """

    username: str
    host: str
    port: str
    password_at: Callable[[int], Password] = field(repr=False)
    tls: Tls = field(default_factory=Tls)
    engine: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password, each None if it was not given; its ``repr`` contains no secret."""

    username: str | None
    password: Password | None


def login(given: Mapping[str, Any], auth_path: str | None, home: Path) -> Login:
    """Combine arguments and file, as ``credentials`` does, for a database whose address is given elsewhere.

    Raises:
        ConfigurationError: As in ``credentials``; or something else than user and password was given.
    """
    said = _read(home / auth_path) if auth_path else {}
    found = {**said, **{name: value for name, value in given.items() if value}}
    _check_texts(found, auth_path)
    if strange := sorted(set(found) - {"username", "password"}):
        raise ConfigurationError(f"dialect='sqlalchemy' takes no {', '.join(strange)}; write them into url")
    password = found.get("password")
    return Login(found.get("username"), None if password is None else _fixed(password)(0))


def credentials(given: Mapping[str, Any], auth_path: str | None, home: Path) -> Credentials:
    """Combine arguments and file; an argument takes precedence over the file.

    Args:
        given: ``username``, ``password``, ``host``, ``port``, ``tls`` and so on; None if it was not given. The password
            is a Password.
        auth_path: A JSON file; a relative path is below the project's folder. A value ``$NAME`` in it stands for that
            environment variable. A value that begins with ``$`` itself is written with ``$$``.
        home: The project's folder.

    Raises:
        ConfigurationError: The file is not valid, or a value is missing or unusable; it is a ValueError.
    """
    said = _read(home / auth_path) if auth_path else {}
    found = {**said, **{name: value for name, value in given.items() if value}}
    iam = _is_true(found.get("iam"))
    missing = [name for name in ("username", "host") + (() if iam else ("password",)) if not found.get(name)]
    if missing:
        where = f"{auth_path} has no" if auth_path else "give"
        raise ConfigurationError(f"{where} {', '.join(missing)}; a server needs username, password and host")
    _check_texts(found, auth_path)
    username, host, port = str(found["username"]), str(found["host"]), _checked_port(found.get("port"))
    password = _tokens(username, host, found.get("region")) if iam else _fixed(found["password"])
    return Credentials(username, host, port, password, _tls(found.get("tls"), home, iam=iam), found.get("engine"))


def storage_options(
    given: Mapping[str, Any] | None, auth_path: str | None, home: Path, argument: str = "storage_options"
) -> dict[str, str]:
    """Combine options of a store or a catalogue, from an argument and from a file; the argument takes precedence.

    Args:
        given: The options by name; None for none.
        auth_path: A JSON file with more of them, as for ``credentials``.
        home: The project's folder.
        argument: The argument's name, for messages.

    Raises:
        ConfigurationError: The file is not valid, or an option is not text; it is a ValueError. No value is shown.
    """
    if not isinstance(given or {}, Mapping):
        raise ConfigurationError(f"{argument} must be a dict of names and texts")
    found: dict[str, Any] = {**(_read(home / auth_path, None) if auth_path else {}), **(given or {})}
    if odd := sorted(str(name) for name, value in found.items() if not isinstance(value, str)):
        raise ConfigurationError(f"{argument}: {', '.join(odd)} must be text; put it in quotes")
    return found


def given_password(said: object) -> Password | None:
    """Wrap a password given as an argument, for ``credentials``; None if none was given.

    Raises:
        ConfigurationError: It is not text; it is a ValueError, and does not show the value.
    """
    if not said:
        return None
    if not isinstance(said, str | Password):
        raise ConfigurationError("password must be text; put it in quotes")
    if "\0" in str(said):
        raise ConfigurationError("password has a NUL character, which no server takes")
    return said if isinstance(said, Password) else Password(lambda: said, said)


def _check_texts(found: Mapping[str, Any], auth_path: str | None) -> None:
    """Check that values are text. The message does not show them, because one may be the password."""
    where = f"in {auth_path}: " if auth_path else ""
    said = {name: found[name] for name in ("username", "host", "password") if found.get(name)}
    odd = [name for name, value in said.items() if not isinstance(value, str | Password)]
    if odd:
        raise ConfigurationError(f"{where}{', '.join(odd)} must be text; put it in quotes")
    with_nul = [name for name, value in said.items() if isinstance(value, str) and "\0" in value]
    if with_nul:
        raise ConfigurationError(f"{where}{', '.join(with_nul)} has a NUL character, which no server takes")


def _read(path: Path, fields: Collection[str] | None = _FIELDS) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"the file of credentials {path} can't be read: {error.strerror or type(error).__name__}; name another one"
            " as auth_path, or correct this one"
        ) from None
    except ValueError as error:
        where = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigurationError(
            f"the file of credentials {path} is not valid JSON{where}; correct it: each text needs quotes,"
            " and commas go between the lines"
        ) from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} is not a file of credentials: it is not a JSON object")
    if fields is not None and (strange := sorted(set(content) - set(fields))):
        raise ConfigurationError(
            f"{path} is not a file of credentials: it has {', '.join(strange)}; it may have {', '.join(fields)}"
        )
    return {name: _resolved(value, name, path) for name, value in content.items()}


def _resolved(value: Any, name: str, path: Path) -> Any:
    if isinstance(value, dict):
        return {inner: _resolved(part, f"{name}.{inner}", path) for inner, part in value.items()}
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    if value.startswith("$$") or not _FROM_ENVIRONMENT.fullmatch(value):
        return value.removeprefix("$") if value.startswith("$$") else value
    if value[1:] not in os.environ:
        # The message doesn't show the variable's name for a secret: it may be a secret that begins with $.
        is_public = name != "password" and name.partition(".")[0] in _FIELDS
        variable = value[1:] if is_public else "which the file names"
        raise ConfigurationError(
            f"{path} takes {name} from the environment variable {variable}, which is not set; set it, or write $$ "
            "for a value that begins with $"
        )
    return os.environ[value[1:]]


def _checked_port(said: Any) -> str:
    port = str(said or "")
    if port and not (port.isdecimal() and 0 < int(port) < 65_536):
        raise ConfigurationError(f"port must be a number from 1 to 65535, not {port!r}")
    return port


def _is_true(said: Any) -> bool:
    known = _WORDS.get(str(said or "").lower())
    if known is None:
        raise ConfigurationError("iam must be true or false")
    return known


def _fixed(password: Any) -> Callable[[int], Password]:
    known = password if isinstance(password, Password) else Password(lambda: str(password), str(password))
    return lambda _port: known


def _tls(said: Any, home: Path, *, iam: bool) -> Tls:
    options = {"mode": said} if isinstance(said, str) else dict(said or {}) if isinstance(said or {}, Mapping) else None
    if options is None or set(options) - {"mode", "ca", "cert", "key"}:
        raise ConfigurationError("tls must be a mode, or a dict of mode, ca, cert and key")
    files = {name: str(home / os.fspath(options[name])) for name in ("ca", "cert", "key") if options.get(name)}
    mode = options.get("mode") or _usual_mode(files, iam=iam)
    if mode not in TLS_MODES:
        raise ConfigurationError(f"the mode of tls must be one of {', '.join(TLS_MODES)}, not {mode!r}")
    if fault := _fault(mode, files, iam=iam):
        raise ConfigurationError(f"tls={mode!r}: {fault}")
    return Tls(mode, **files)


def _usual_mode(files: Mapping[str, str], *, iam: bool) -> TlsMode:
    if "ca" in files:
        return "verify-full"
    return "require" if files or iam else "prefer"


def _fault(mode: TlsMode, files: Mapping[str, str], *, iam: bool) -> str | None:
    """Refuse combinations that look safe and are not."""
    if "ca" in files and not mode.startswith("verify"):
        return "only 'verify-ca' and 'verify-full' use a ca"
    if mode == "verify-ca" and "ca" not in files:
        return "name the file of the authority's certificate as ca"
    if "key" in files and "cert" not in files:
        return "a key needs the certificate that it belongs to, cert"
    if mode in _UNENCRYPTED and (files or iam):
        return f"{'a token' if iam else 'a certificate'} is sent only with TLS: use 'require' or a stricter mode"
    return None


def _tokens(username: str, host: str, region: Any) -> Callable[[int], Password]:
    """Return a token of Amazon's, which is valid for 15 minutes, for one user at one host and port."""
    return lambda port: Password(lambda: _token(username, host, port, region), (username, host, port, region))


def _token(username: str, host: str, port: int, region: Any) -> str:
    with from_extra("boto3", "aurora"):
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    try:
        client = boto3.client("rds", region_name=region)
        return str(client.generate_db_auth_token(DBHostname=host, Port=port, DBUsername=username, Region=region))
    except (BotoCoreError, ClientError, ValueError) as error:
        raise TargetUnavailableError(f"Amazon gives no token for {username} at {host}:{port}: {error}") from None
