"""Google's clients for one project, and what their errors mean."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import google.auth.exceptions
import grpc
import requests.exceptions
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, bigquery_storage_v1
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.oauth2 import service_account

from api2db.backoff import BackOff
from api2db.errors import BatchRefusedError, TargetUnavailableError
from api2db.texts import redact

CALL_S = 60.0
_POLL_S = 15.0  # seconds for each question about a query job, which BigQuery answers at once
_QUERY_S = 600.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_PORTS_APART = 10  # of the emulators' usual ports: 9050 for REST, 9060 for gRPC
_PORTS = {"http": 80, "https": 443}
_IN_A_KEY = ("client_email", "private_key", "token_uri", "universe_domain")
_SCOPES = ("https://www.googleapis.com/auth/bigquery",)
_LARGEST_ANSWER_BYTES = 64 << 20
_CHANNEL = (
    ("grpc.max_receive_message_length", _LARGEST_ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
# Google's "Error messages": of the reasons with status 400, only these may be about rows or columns.
_REFUSALS = {"", "invalid", "invalidQuery"}
_UNREACHABLE = (
    google.auth.exceptions.TransportError,
    requests.exceptions.RequestException,
    exceptions.RetryError,
    ConnectionError,
    TimeoutError,
)


@dataclass(frozen=True, slots=True)
class TableLocation:
    """A table of BigQuery, and the account that uses it.

    Attributes:
        auth_path: The service account's key file. With an emulator it is not read.
        location: Where a missing data set is created.
        endpoint: An emulator's REST address, with its scheme; None for Google's BigQuery.
        write_endpoint: Its gRPC address, host and port; None for the host of ``endpoint``, ten ports higher.
    """

    auth_path: Path
    project: str
    dataset: str
    table: str
    location: str = "US"
    endpoint: str | None = None
    write_endpoint: str | None = None

    @property
    def name(self) -> str:
        """The name for messages, and for GoogleSQL within backticks."""
        return f"{self.project}.{self.dataset}.{self.table}"

    @property
    def write_address(self) -> str | None:
        """The emulator's gRPC address; None for Google's BigQuery."""
        if self.write_endpoint or self.endpoint is None:
            return self.write_endpoint
        parts = urlsplit(self.endpoint)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{host}:{(parts.port or _PORTS[parts.scheme]) + _PORTS_APART}"


class Clients:
    """The two clients of a table, created on first use. An emulator gets no credentials.

    Raises:
        TargetUnavailableError: The key file cannot be used.
    """

    def __init__(self, place: TableLocation) -> None:
        self.place = place
        nobody: Any = AnonymousCredentials  # it has no types
        self.credentials: Any = nobody() if place.endpoint else _credentials(place.auth_path)
        self._rest: Any = None
        self._writer: bigquery_storage_v1.BigQueryWriteClient | None = None

    @property
    def rest(self) -> Any:
        """Data sets, tables and jobs. Its types do not allow ``retry=None``, although it does."""
        if self._rest is None:
            universe = self.credentials.universe_domain  # googleapis.com, except for partners' clouds
            # Without an address, Google's library would take BIGQUERY_EMULATOR_HOST, and send a token there.
            address = self.place.endpoint or _rest_address(universe)
            options = ClientOptions(api_endpoint=address, universe_domain=universe)
            self._rest = bigquery.Client(
                self.place.project, self.credentials, location=self.place.location, client_options=options
            )
        return self._rest

    @property
    def writer(self) -> bigquery_storage_v1.BigQueryWriteClient:
        """The Storage Write API."""
        if self._writer is None:
            address = self.place.write_address
            channel = grpc.insecure_channel(address, options=_CHANNEL) if address else _channel(self.credentials)
            make: Any = bigquery_storage_v1.BigQueryWriteClient
            self._writer = make(transport=BigQueryWriteGrpcTransport(channel=channel))
        return self._writer

    def close(self) -> None:
        """Close both, and end calls under way."""
        rest, writer, self._rest, self._writer = self._rest, self._writer, None, None
        if writer is not None:
            transport: Any = writer.transport
            transport.close()
        if rest is not None:
            rest.close()


def _rest_address(universe: str) -> str:
    """Google's REST address."""
    return f"https://bigquery.{universe}"


def _channel(credentials: Any) -> grpc.Channel:
    """A channel to Google's Storage Write API."""
    host = f"bigquerystorage.{credentials.universe_domain}"
    return BigQueryWriteGrpcTransport.create_channel(host, credentials, options=_CHANNEL)


def answer_of(job: Any) -> list[tuple[Any, ...]]:
    """Wait for the end of a query job, and return its rows. Each question has a time limit.

    A script has no rows to ask for; Google's client would wait at least two minutes for them.

    Raises:
        TargetUnavailableError: The job is still running.
    """
    deadline, back_off = time.monotonic() + _QUERY_S, BackOff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    while not job.done(retry=None, timeout=_POLL_S):
        if time.monotonic() > deadline:
            raise TargetUnavailableError(f"the query job {job.job_id} has not ended in {_QUERY_S:.0f} seconds")
        time.sleep(back_off.failed())
    if (fault := job.exception(timeout=_POLL_S)) is not None:
        raise fault
    if not job.query.startswith("SELECT"):
        return []
    return [tuple(row.values()) for row in job.result(retry=None, job_retry=None, timeout=_POLL_S)]


def _credentials(path: Path) -> Any:
    try:
        content = json.loads(path.read_bytes())
        content.setdefault("universe_domain", "googleapis.com")
        wrong = [name for name in _IN_A_KEY if not (content[name] and isinstance(content[name], str))]
        if wrong or urlsplit(content["token_uri"]).scheme not in {"http", "https"}:
            raise ValueError(wrong)
        load: Any = service_account.Credentials.from_service_account_info
        return load(content, scopes=_SCOPES)
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        google.auth.exceptions.GoogleAuthError,
    ) as error:
        raise TargetUnavailableError(
            f"{path} is not a usable key file of a Google service account ({type(error).__name__}); download one"
            " in JSON from the service account's keys and put it there"
        ) from None


@contextmanager
def sorted_errors(place: TableLocation, doing: str, *, refusable: bool = False) -> Iterator[None]:
    """Translate errors of Google's clients into ours, with the next step.

    Args:
        doing: What was tried, for the message.
        refusable: Whether a bad request means that rows or columns are refused; otherwise it is retried.
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
        raise TargetUnavailableError(f"{doing}: BigQuery can't be reached: {redact(_line(error))}") from error
    except google.auth.exceptions.InvalidOperation as error:
        raise TargetUnavailableError(
            f"{doing}: the server at {place.endpoint} demands credentials, which api2db sends to Google only; unset"
            " endpoint and BIGQUERY_EMULATOR_HOST, or use an emulator without sign-in"
        ) from error


def next_step(place: TableLocation, error: exceptions.GoogleAPICallError) -> str:
    """What a person can do about an error, to append to its message; empty if that is to wait."""
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
