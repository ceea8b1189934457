"""The address of an emulator, which an option or the environment gives."""

import os
import re

from api2db.errors import ConfigurationError

_VARIABLE = "BIGQUERY_EMULATOR_HOST"
_ADDRESS = re.compile(r"(https?://)?(\[[0-9A-Fa-f:.]+\]|[^\s/:@?#]+)(:\d{1,5})?/?")


def emulator_address(endpoint: str | None) -> str | None:
    """Return the REST address of an emulator, with its scheme; None if BigQuery is Google's.

    Args:
        endpoint: The address; None or empty to use the environment variable.

    Raises:
        ConfigurationError: It is not the address of a server.
    """
    named, address = ("endpoint", endpoint) if endpoint else (_VARIABLE, os.environ.get(_VARIABLE))
    if not address:
        return None
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigurationError(f"{named} can't be {address!r}: give an emulator's host and port, as localhost:9050")
    return f"{found[1] or 'http://'}{found[2]}{found[3] or ''}"
