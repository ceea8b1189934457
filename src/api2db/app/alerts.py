"""Alerts: conditions on a project's figures, told once when they begin and once when they are over.

A run checks the conditions every five seconds, beside its history. Each receiver has a thread, which sends its alerts
from a queue of bounded length, with retries, so that no receiver can hold up a row. ``CACHE/alerts.json`` has what is
active and what is not sent yet: a run that is restarted tells nothing twice, and sends the rest. Only an alert that was
sent within the last seconds before a crash, or whose sending has not ended when the run ends, may be sent again.
"""

import json
import logging
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, Final, Literal, Protocol, cast
from urllib.parse import urlsplit

from api2db.app._beside import beside
from api2db.app.figures import CollectorFigures, read_figures
from api2db.backoff import BackOff
from api2db.disk.atomic import make_folders, read_json, write_json
from api2db.errors import ConfigurationError
from api2db.ingest import CollectorStatus
from api2db.journal import journal_store
from api2db.texts import counted, redact

logger = logging.getLogger("api2db.app")
_SEND_S: Final = 10.0
_KEEP_TRYING_S: Final = 3600.0
_MOST_QUEUED: Final = 1000
_LAST_S: Final = 10.0
_LONGEST_SAID: Final = 200
_VARIABLE: Final = re.compile(r"\$(?:\w+|\{[^}]*\})")
_NOT_IN_ADDRESS: Final = re.compile(r"[^!-~]")
_NOT_IN_HEADER: Final = re.compile(r"[^\t -~\xa0-\xff]")
_HEADER_NAME: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_UNITS_S: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_FORM: Final = re.compile(r"\s*(\w+)\s*(?:>\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|d)\s*)?")
_WITH_TIME: Final = ("lag", "poll_failing")
_OF_A_RUN: Final = ("dead", "poll_failing")  # what only a running collector can end
_PLAIN: Final = ("rejected", "parked", "dead", "schema_change")
Kind = Literal["lag", "poll_failing", "rejected", "parked", "dead", "schema_change"]


@dataclass(frozen=True)
class Alert:
    """What a receiver is told.

    Attributes:
        state: ``begun`` or ``over``; a change of a schema only begins.
        condition: As it was written, such as ``lag>60s``.
        collector: The collector's name.
        stream: The stream; empty where the collector itself is concerned.
        text: What is wrong, in one line.
        at: When it was seen, seconds since 1970.
    """

    state: Literal["begun", "over"]
    condition: str
    collector: str
    stream: str
    text: str
    at: float

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return dict(vars(self))


class Receiver(Protocol):
    """Who is told."""

    @property
    def on(self) -> Sequence[str]:
        """The conditions."""

    def send(self, alert: Alert) -> None:
        """Tell; any exception leads to another attempt later."""


@dataclass(frozen=True)
class Webhook:
    """Sends an alert as JSON by POST.

    Args:
        url: Where to send it; ``$NAME`` parts come from the environment. It is never shown.
        on: Conditions: ``"lag>60s"``, ``"poll_failing>10min"``, ``"rejected"``, ``"parked"``, ``"dead"``,
            ``"schema_change"``.
        form: ``"json"``: the fields of ``Alert``; ``"slack"``: an object with ``text``.
        headers: Sent with each alert; ``$NAME`` parts of the values come from the environment. They are never shown.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    url: str = field(repr=False)
    on: Sequence[str]
    form: Literal["json", "slack"] = "json"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _conditions(self.on)
        if self.form not in ("json", "slack"):
            raise ConfigurationError(f"form of Webhook is {self.form!r}; give 'json' or 'slack'")
        if missing := _missing_variables(self.url):
            raise ConfigurationError(f"url of Webhook names {', '.join(missing)}, which the environment lacks")
        _check_address(_expanded(self.url))
        for name, value in self.headers.items():
            if _missing_variables(value):  # which is not shown: it may be a part of a secret
                raise ConfigurationError(f"header {name!r} of Webhook names a variable that the environment lacks")
            if not _HEADER_NAME.fullmatch(name) or _NOT_IN_HEADER.search(_expanded(value)):
                raise ConfigurationError(f"header {name!r} of Webhook has a character that a header can't have")

    def send(self, alert: Alert) -> None:
        """Send it; see ``Receiver``."""
        said = _sentence(alert)
        content = {"text": said} if self.form == "slack" else {**alert.as_json(), "message": said}
        headers = {name: _expanded(value) for name, value in self.headers.items()}
        try:
            request = urllib.request.Request(  # noqa: S310 - the scheme was checked
                _expanded(self.url),
                json.dumps(content).encode(),
                {"Content-Type": "application/json", **headers},
                method="POST",
            )
            with _opener.open(request, timeout=_SEND_S):
                return
        except (ValueError, HTTPException) as error:  # their messages may have the address or a header
            raise OSError(f"the request or its answer can't be used ({type(error).__name__})") from None


def _missing_variables(text: str) -> list[str]:
    return [name for name in _VARIABLE.findall(text) if os.path.expandvars(name) == name]


def _expanded(text: str) -> str:
    """Put in the variables of the environment, without the newline with which files of secrets often end."""
    return os.path.expandvars(text).strip()


def _check_address(url: str) -> None:
    if _NOT_IN_ADDRESS.search(url):
        raise ConfigurationError("url of Webhook has a character that an address can't have; percent-encode it")
    if not _is_address(url):
        raise ConfigurationError("url of Webhook must be an http or https address")
    if "@" in urlsplit(url).netloc:
        raise ConfigurationError("url of Webhook has a user; give headers={'Authorization': …} instead")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Lets a redirect fail: urllib would go on with a GET without the alert, and send the headers to any host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Return no request."""


_opener: Final = urllib.request.build_opener(_NoRedirects)


@dataclass(frozen=True)
class AlertCommand:
    """Runs a command for each alert, with the alert as JSON on its standard input.

    Args:
        command: The program and its arguments; no shell reads them. It gets ten seconds, and is never shown.
        on: As for ``Webhook``.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    command: Sequence[str] = field(repr=False)
    on: Sequence[str]

    def __post_init__(self) -> None:
        _conditions(self.on)
        if isinstance(self.command, str) or not self.command:
            raise ConfigurationError("command of AlertCommand is a list: the program and its arguments")

    def send(self, alert: Alert) -> None:
        """Run it; see ``Receiver``."""
        content = json.dumps({**alert.as_json(), "message": _sentence(alert)})
        with tempfile.TemporaryFile() as said:  # not a pipe: what the command leaves running would hold its end
            try:
                process = subprocess.Popen(  # noqa: S603 - the user's own command
                    self.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, process_group=0
                )
            except OSError as error:
                raise OSError(f"it can't be started: {error.strerror}") from None
            with process:
                try:
                    process.communicate(content.encode(), timeout=_SEND_S)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    raise TimeoutError(f"it did not end within {_SEND_S:g} s") from None
            if process.returncode:
                said.seek(max(0, said.seek(0, os.SEEK_END) - _LONGEST_SAID))
                end = said.read(_LONGEST_SAID).decode(errors="replace").strip()
                raise OSError(f"it ended with exit code {process.returncode}: {end}")


class Alerts:
    """Checks the conditions of a project, and tells the receivers.

    Args:
        home: The project's folder.
        receivers: Who is told.
    """

    def __init__(self, home: Path, receivers: Sequence[Receiver]) -> None:
        self._home = home
        self._receivers = list(receivers)
        self._file = home / "CACHE" / "alerts.json"
        self._stored: Mapping[str, Any] = read_json(self._file) or {}
        self._known: Mapping[str, Any] = {"since": time.time(), **self._stored}
        self._queues = [_Queue(receiver) for receiver in self._receivers]
        self._not_running: set[str] = set()
        for at, said in self._known.get("unsent", ()):
            alert = Alert(**said)
            if self._has(at, alert.condition):
                self._queues[at].put(alert)

    def check_once(self, names: Collection[str]) -> None:
        """Check now, and send for ten seconds at most; what is not sent by then is sent by the next run."""
        if not self._receivers:
            return
        with self.sending():
            self.check(read_figures(self._home, names))
            deadline_s = time.monotonic() + _LAST_S
            for each in self._queues:
                each.wait_sent(max(0.0, deadline_s - time.monotonic()))

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send what is queued while the block runs."""
        if not self._receivers:
            yield
            return

        def wake() -> None:
            for each in self._queues:
                each.wake()

        try:
            with beside(*(each.run for each in self._queues), name="api2db-alert", end=wake):
                yield
        finally:
            self._remember(self._known)

    def check(self, collectors: Sequence[CollectorFigures], now_s: float | None = None) -> None:
        """Compare the figures with what is known, and queue what has begun or is over.

        It does nothing without receivers.
        """
        if not self._receivers:
            return
        now_s = time.time() if now_s is None else now_s
        before: dict[str, str] = self._known.get("active", {})
        changes, seen = self._changes(collectors)
        active = _still_unknown(before, collectors)
        for at, receiver in enumerate(self._receivers):
            for written, kind, seconds in _conditions(receiver.on):
                for name, stream, text in self._holding(kind, seconds, collectors, now_s):
                    key = json.dumps([at, written, name, stream])
                    active[key] = text
                    if key not in before:
                        self._tell(at, Alert("begun", written, name, stream, text, now_s))
                if kind == "schema_change":
                    for name, stream, change in changes:
                        self._tell(at, Alert("begun", written, name, stream, _described(change), now_s))
        self._not_running = {key for key, _ in _not_running(collectors)}
        self._tell_of_ends({key: text for key, text in before.items() if key not in active}, now_s)
        self._remember({**self._known, "active": active, "seen": seen})

    def _holding(
        self, kind: Kind, seconds: float, collectors: Sequence[CollectorFigures], now_s: float
    ) -> Iterator[tuple[str, str, str]]:
        """Yield where a condition holds: the collector, the stream or an empty text, and what is wrong."""
        if kind == "dead":
            # Figures are as old as a second: a stream that has just been started may still look dead in one of them.
            yield from (where for key, where in _not_running(collectors) if key in self._not_running)
            return
        for collector in collectors:
            for stream, text in _found(kind, seconds, collector, now_s):
                yield collector.name, stream, text

    def _tell_of_ends(self, ended: Mapping[str, str], now_s: float) -> None:
        """Say what is over, but not for a condition that the project no longer has."""
        for key, text in ended.items():
            at, written, name, stream = json.loads(key)
            if self._has(at, written):
                self._tell(at, Alert("over", written, name, stream, text, now_s))

    def _has(self, at: int, condition: str) -> bool:
        return at < len(self._receivers) and condition in self._receivers[at].on

    def _tell(self, at: int, alert: Alert) -> None:
        self._queues[at].put(alert)

    def _changes(
        self, collectors: Sequence[CollectorFigures]
    ) -> tuple[list[tuple[str, str, Mapping[str, Any]]], dict[str, float]]:
        """The changes of schemas since the last check, and when the last one of each stream was."""
        seen: dict[str, float] = dict(self._known.get("seen", {}))
        if not any("schema_change" in receiver.on for receiver in self._receivers):
            return [], seen
        store, found = journal_store(self._home), []
        for collector in collectors:
            for identity, said in store.details(collector.name).items():
                key = json.dumps([collector.name, identity])
                since = seen.get(key, self._known["since"])
                new = [change for change in said.get("changes", ()) if change["at"] > since]
                found += [(collector.name, identity, change) for change in new]
                if new:
                    seen[key] = new[-1]["at"]
        return found, seen

    def _remember(self, known: Mapping[str, Any]) -> None:
        unsent = [[at, alert.as_json()] for at, each in enumerate(self._queues) for alert in each.unsent]
        self._known = known = {**known, "unsent": unsent}
        if known == self._stored:
            return
        try:
            make_folders(self._file.parent)
            write_json(self._file, known)
        except OSError as error:  # a full or read-only disk: the next check tries again
            logger.debug("which alerts are active can't be stored: %s", error)
        else:
            self._stored = known


class _Queue:
    """The alerts of one receiver, sent in order; if there are too many, the oldest one is dropped."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._alerts: deque[Alert] = deque(maxlen=_MOST_QUEUED)
        self._changed = threading.Condition()

    @property
    def unsent(self) -> list[Alert]:
        """What is queued, with the alert that is being sent."""
        with self._changed:
            return list(self._alerts)

    def put(self, alert: Alert) -> None:
        """Queue an alert."""
        with self._changed:
            self._alerts.append(alert)
            self._changed.notify_all()

    def wait_sent(self, timeout_s: float) -> None:
        """Wait until nothing is queued, at most this long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alerts, timeout_s)

    def wake(self) -> None:
        """End a wait in ``run``, which then sees whether it has to end."""
        with self._changed:
            self._changed.notify_all()

    def run(self, ended: threading.Event) -> None:
        """Send until the run ends."""
        pauses = BackOff(1.0, 300.0, jitter_share=0.3)
        while (alert := self._next(ended)) is not None:
            if self._is_settled(alert, pauses):
                pauses.reset()
                self._take_out(alert)
            else:
                ended.wait(pauses.failed())

    def _next(self, ended: threading.Event) -> Alert | None:
        """Wait for the oldest alert; None if the run has ended."""
        with self._changed:
            self._changed.wait_for(lambda: ended.is_set() or self._alerts)
            return None if ended.is_set() else self._alerts[0]

    def _take_out(self, alert: Alert) -> None:
        with self._changed:
            if self._alerts[0] is alert:  # otherwise it was dropped meanwhile
                self._alerts.popleft()
                self._changed.notify_all()

    def _is_settled(self, alert: Alert, pauses: BackOff) -> bool:
        """Send an alert; return whether it was sent, or is given up."""
        try:
            self._receiver.send(alert)
        except Exception as error:  # noqa: BLE001 - the receiver is foreign: whatever it raises, the alert is tried again
            kind, said = type(self._receiver).__name__, redact(str(error))
            if time.time() - alert.at > _KEEP_TRYING_S:
                logger.error("an alert could not be sent by %s, and is given up: %s", kind, said)  # noqa: TRY400 - given up
                return True
            if not pauses.failures:
                logger.warning("an alert could not be sent by %s, and is tried again: %s", kind, said)
            return False
        return True


def check_receivers(given: object) -> list[Receiver]:
    """Return the receivers that ``Run`` was given.

    Raises:
        ConfigurationError: One is none.
    """
    if not isinstance(given, Sequence) or not all(hasattr(each, "send") and hasattr(each, "on") for each in given):
        raise ConfigurationError("alerts is a list of receivers, such as [Webhook(url, on=['rejected'])]")
    return list(given)


def _conditions(on: Sequence[str]) -> list[tuple[str, Kind, float]]:
    """Read conditions: as they were written, their kind, and their time in seconds.

    Raises:
        ConfigurationError: One can't be read.
    """
    if isinstance(on, str) or not on:
        raise ConfigurationError("on is a list of conditions, such as ['lag>60s', 'rejected']")
    return [(written, *_condition(written)) for written in on]


def _condition(written: str) -> tuple[Kind, float]:
    match = _FORM.fullmatch(str(written))
    name, number, unit = ("", "", "") if match is None else match.groups(default="")
    if name in _WITH_TIME and number:
        return cast("Kind", name), float(number) * _UNITS_S[unit]
    if name in _PLAIN and not number:
        return cast("Kind", name), 0.0
    raise ConfigurationError(
        f"there is no condition {written!r}; give one of: lag>60s, poll_failing>10min, {', '.join(_PLAIN)}"
    )


def _found(kind: Kind, seconds: float, collector: CollectorFigures, now_s: float) -> Iterator[tuple[str, str]]:
    """Yield where a condition holds: the stream, or an empty text for the collector itself; and what is wrong."""
    status = collector.status
    if kind == "poll_failing" and collector.running and status is not None and status.last_error:
        began_s = status.failing_since or now_s
        if now_s - began_s > seconds:
            yield "", f"polls have failed for {now_s - began_s:.0f} s: {status.last_error.splitlines()[0]}"
    for stream in collector.streams:
        if kind == "lag" and stream.lag_s > seconds:
            yield stream.identity, f"{counted(stream.rows_waiting, 'row')} wait, the oldest for {stream.lag_s:.0f} s"
        elif kind == "rejected" and stream.rows_rejected:
            yield stream.identity, f"{counted(stream.rows_rejected, 'row')} rejected"
        elif kind == "parked" and stream.rows_parked:
            yield stream.identity, f"{counted(stream.rows_parked, 'row')} parked"


def _not_running(collectors: Sequence[CollectorFigures]) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Yield streams that do not run although their collector does: a key, and where and what."""
    for collector in collectors:
        for stream in collector.streams:
            if collector.running and not stream.running:
                text = "the stream does not run, though its collector does"
                yield json.dumps([collector.name, stream.identity]), (collector.name, stream.identity, text)


def _still_unknown(active: Mapping[str, str], collectors: Sequence[CollectorFigures]) -> dict[str, str]:
    """What was active, and whose end can't be seen: no poll has succeeded, no process runs, or no journal is read."""
    unread = {collector.name for collector in collectors if collector.error}
    stopped = {collector.name for collector in collectors if not collector.running}
    not_well = {collector.name for collector in collectors if not _has_polled_well(collector.status)}
    found = {}
    for key, text in active.items():
        _, written, name, _ = json.loads(key)
        kind = _condition(written)[0]
        if name in unread or (kind in _OF_A_RUN and name in stopped) or (kind == "poll_failing" and name in not_well):
            found[key] = text
    return found


def _has_polled_well(status: CollectorStatus | None) -> bool:
    """Whether the last poll is known to have succeeded; the first one of a process may still be under way."""
    return status is not None and status.last_error is None and (status.failed > 0 or status.polls > 1)


def _described(change: Mapping[str, Any]) -> str:
    return f"column {change['column']!r}: {change['before'] or 'new'} → {change['after'] or 'gone'}"


def _sentence(alert: Alert) -> str:
    where = " → ".join(filter(None, (alert.collector, alert.stream)))
    return f"api2db: {where}: {alert.text} ({alert.condition})" + (" is over" if alert.state == "over" else "")
