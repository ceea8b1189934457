"""What the errors of Google's clients mean to us: whether to wait, what is refused, and what a person can do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import google.auth.exceptions
import requests.exceptions
from google.api_core import exceptions

from api2db.errors import BatchRefusedError, TargetUnavailableError
from api2db.targets.bigquery._client import TableLocation

# Google's "Error messages": of the reasons that come with status 400 these alone may speak of rows or columns.
_REFUSALS = {"", "invalid", "invalidQuery"}
_UNREACHABLE = (
    google.auth.exceptions.TransportError,
    requests.exceptions.RequestException,
    exceptions.RetryError,
    ConnectionError,
    TimeoutError,
)


@contextmanager
def sorted_errors(place: TableLocation, doing: str, *, refusable: bool = False) -> Iterator[None]:
    """Errors of Google's clients leave as ours, with the next step.

    Args:
        doing: What was tried, for the message.
        refusable: Whether a request that the server calls wrong is a refusal of rows or of columns; else, like
            whatever else fails, it is tried again.
    """
    try:
        yield
    except google.auth.exceptions.RefreshError as error:
        raise TargetUnavailableError(
            f"Google refuses the key in {place.auth_path}: {_line(error)}; make a new key of the service account and"
            " put it there"
        ) from error
    except exceptions.BadRequest as error:
        if not refusable or _reason(error) not in _REFUSALS:
            raise TargetUnavailableError(f"{doing}: {_line(error)}") from error
        raise BatchRefusedError(f"{doing}: {_line(error)}") from error
    except exceptions.GoogleAPICallError as error:
        raise TargetUnavailableError(f"{doing}: {_line(error)}{next_step(place, error)}") from error
    except _UNREACHABLE as error:
        raise TargetUnavailableError(f"{doing}: BigQuery can't be reached: {_line(error)}") from error


def next_step(place: TableLocation, error: exceptions.GoogleAPICallError) -> str:
    """What a person can do about an error, to go behind its message; empty where that is to wait."""
    reason = _reason(error)
    if isinstance(error, exceptions.Forbidden) and reason not in {"quotaExceeded", "rateLimitExceeded"}:
        return (
            f"; grant the service account the roles BigQuery Data Editor on {place.project}.{place.dataset} and"
            f" BigQuery Job User on {place.project}"
        )
    if isinstance(error, exceptions.NotFound) and "Project" in str(error.message):
        return f"; check pid, or whether the service account may see the project {place.project}"
    if isinstance(error, exceptions.NotFound) and "in location" in str(error.message):
        return f"; jobs run in {place.location}: set location to where the data set {place.dataset} is kept"
    if isinstance(error, exceptions.Unauthorized):
        return f"; check the key file {place.auth_path} and this machine's clock"
    return ""


def _reason(error: exceptions.GoogleAPICallError) -> str:
    first = next(iter(error.errors or ()), None)
    return str(first.get("reason", "")) if isinstance(first, dict) else ""


def _line(error: Any) -> str:
    return " ".join(str(getattr(error, "message", None) or error).split()) or "no answer in time"
