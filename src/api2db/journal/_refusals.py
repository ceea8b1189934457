"""What journals of every kind refuse."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from api2db.errors import ConfigurationError


def check_is_free(identity: str, *, is_attached: bool) -> None:
    """Raise if a stream can't be attached, because it is.

    Raises:
        ConfigurationError: It is attached.
    """
    if is_attached:
        raise ConfigurationError(
            f"a stream to {identity} is running already; stop it first, "
            "or give one of the two another table or stream_id"
        )


def check_can_be_forgotten(identity: str, *, is_attached: bool) -> None:
    """Raise if a stream can't be forgotten, because it is attached.

    Raises:
        ConfigurationError: It is.
    """
    if is_attached:
        raise ConfigurationError(f"the stream {identity} is running; stop it before you forget it")


def file_below(home: Path, name: str) -> Path:
    """Resolve a file name below the home.

    Raises:
        ConfigurationError: The name leads out of the home.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ConfigurationError(f"{name} is not below {home}; name a file of the project")
    return home / name


def cursor_json(value: Mapping[str, Any]) -> bytes:
    """Encode a collector's state.

    Raises:
        ConfigurationError: It is no JSON dict.
    """
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"a collector's state must be a JSON dict: {error}") from error
