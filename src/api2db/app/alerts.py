"""Alerts: conditions on a project's figures, told once when they begin and once when they are over.

A run checks the conditions every five seconds, beside its history. Alerts are sent by a thread of their own from a
queue of bounded length, with retries, so that no receiver can hold up a row. What is active stands in
``CACHE/alerts.json``: a run that is restarted tells nothing twice.
"""

import json
import logging
import os
import queue
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast
from urllib.parse import urlsplit

from api2db.app.figures import CollectorFigures, read_figures
from api2db.backoff import BackOff
from api2db.disk.atomic import FILE_MODE, make_folders
from api2db.errors import ConfigurationError
from api2db.ingest.counts import counted
from api2db.journal import journal_store
from api2db.redaction import redact

logger = logging.getLogger("api2db.app")
_CHECK_S: Final = 5.0
_SEND_S: Final = 10.0
_KEEP_TRYING_S: Final = 3600.0
_MOST_QUEUED: Final = 1000
_UNITS_S: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_FORM: Final = re.compile(r"\s*(\w+)\s*(?:>\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|d)\s*)?")
_WITH_TIME: Final = ("lag", "poll_failing")
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
        headers: Sent with each alert; never shown.

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
        parts = urlsplit(os.path.expandvars(self.url))
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError("url of Webhook must be an http or https address")

    def send(self, alert: Alert) -> None:
        """Send it; see ``Receiver``."""
        said = _sentence(alert)
        content = {"text": said} if self.form == "slack" else {**alert.as_json(), "message": said}
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            os.path.expandvars(self.url), json.dumps(content).encode(), headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=_SEND_S):  # noqa: S310 - the scheme was checked
            return


@dataclass(frozen=True)
class AlertCommand:
    """Runs a command for each alert, with the alert as JSON on its standard input.

    Args:
        command: The program and its arguments; no shell reads them.
        on: As for ``Webhook``.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    command: Sequence[str]
    on: Sequence[str]

    def __post_init__(self) -> None:
        _conditions(self.on)
        if isinstance(self.command, str) or not self.command:
            raise ConfigurationError("command of AlertCommand is a list: the program and its arguments")

    def send(self, alert: Alert) -> None:
        """Run it; see ``Receiver``."""
        content = json.dumps({**alert.as_json(), "message": _sentence(alert)})
        subprocess.run(self.command, input=content, text=True, timeout=_SEND_S, check=True, capture_output=True)  # noqa: S603


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
        self._known: dict[str, Any] = _read(self._file)
        self._queues = [_Queue(receiver) for receiver in self._receivers]

    @contextmanager
    def checked(self, names: Collection[str] | None = None) -> Iterator[None]:
        """Check every five seconds while the block runs, and send."""
        if not self._receivers:
            yield
            return
        ended = threading.Event()

        def check() -> None:
            while not ended.wait(_CHECK_S):
                self.check(read_figures(self._home, names))

        with self.sending():
            threading.Thread(target=check, name="api2db-alerts", daemon=True).start()
            try:
                yield
            finally:
                ended.set()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send what is queued while the block runs."""
        ended = threading.Event()
        for each in self._queues:
            threading.Thread(target=each.run, args=(ended,), name="api2db-alert", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def check(self, collectors: Sequence[CollectorFigures], now_s: float | None = None) -> None:
        """Compare the figures with what is known, and queue what has begun or is over."""
        now_s = time.time() if now_s is None else now_s
        before: dict[str, str] = self._known.get("active", {})
        changes_before, changes = self._known.get("changes", {}), self._changes(collectors)
        active = {}
        for at, receiver in enumerate(self._receivers):
            for written, kind, seconds in _conditions(receiver.on):
                for name, stream, text in _holding(kind, seconds, collectors, now_s):
                    key = json.dumps([at, written, name, stream])
                    active[key] = text
                    if key not in before:
                        self._tell(at, Alert("begun", written, name, stream, text, now_s))
                if kind == "schema_change":
                    for name, stream, text in _new_changes(changes, changes_before):
                        self._tell(at, Alert("begun", written, name, stream, text, now_s))
        self._tell_of_ends({key: text for key, text in before.items() if key not in active}, now_s)
        known = {"active": active, "changes": changes}
        if known != self._known:
            self._known = known
            self._keep()

    def _tell_of_ends(self, ended: Mapping[str, str], now_s: float) -> None:
        """Say what is over, but not for a condition that the project no longer has."""
        for key, text in ended.items():
            at, written, name, stream = json.loads(key)
            if at < len(self._receivers) and written in self._receivers[at].on:
                self._tell(at, Alert("over", written, name, stream, text, now_s))

    def _tell(self, at: int, alert: Alert) -> None:
        self._queues[at].put(alert)

    def _changes(self, collectors: Sequence[CollectorFigures]) -> dict[str, Any]:
        """The last change of each stream's schema: when it was seen, and what it was."""
        if not any("schema_change" in receiver.on for receiver in self._receivers):
            return {}
        store, found = journal_store(self._home), dict(self._known.get("changes", {}))
        for collector in collectors:
            for identity, said in store.details(collector.name).items():
                last = (said.get("changes") or [{"at": 0.0}])[-1]
                found[json.dumps([collector.name, identity])] = [last["at"], _described(last)]
        return found

    def _keep(self) -> None:
        temporary = self._file.with_name(".alerts.json.tmp")
        try:
            make_folders(self._file.parent)
            with open(temporary, "w", opener=lambda path, flags: os.open(path, flags, FILE_MODE)) as file:
                json.dump(self._known, file)
            temporary.replace(self._file)
        except OSError as error:
            logger.debug("which alerts are active can't be stored: %s", error)


class _Queue:
    """The alerts of one receiver, sent in order."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._alerts: queue.Queue[Alert] = queue.Queue(_MOST_QUEUED)

    def put(self, alert: Alert) -> None:
        """Queue it, in place of the oldest one if there is no room."""
        while True:
            try:
                self._alerts.put_nowait(alert)
            except queue.Full:
                with suppress(queue.Empty):
                    self._alerts.get_nowait()
            else:
                return

    def run(self, ended: threading.Event) -> None:
        """Send until the run ends."""
        while not ended.is_set():
            with suppress(queue.Empty):
                self._send(self._alerts.get(timeout=0.2), ended)

    def _send(self, alert: Alert, ended: threading.Event) -> None:
        pauses = BackOff(1.0, 300.0, jitter_share=0.3)
        while not ended.is_set():
            try:
                self._receiver.send(alert)
            except Exception as error:  # noqa: BLE001 - the receiver is foreign: whatever it raises, the alert is tried again
                kind = type(self._receiver).__name__
                if time.time() - alert.at > _KEEP_TRYING_S:
                    logger.error("an alert could not be sent by %s: %s", kind, redact(str(error)))  # noqa: TRY400 - given up
                    return
                if not pauses.failures:
                    logger.warning("an alert could not be sent by %s, and is tried again: %s", kind, redact(str(error)))
                ended.wait(pauses.failed())
            else:
                return


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
        elif kind == "dead" and collector.running and not stream.running:
            yield stream.identity, "the stream does not run, though its collector does"


def _holding(
    kind: Kind, seconds: float, collectors: Sequence[CollectorFigures], now_s: float
) -> Iterator[tuple[str, str, str]]:
    for collector in collectors:
        for stream, text in _found(kind, seconds, collector, now_s):
            yield collector.name, stream, text


def _new_changes(after: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key, (at, said) in after.items():
        if at > before.get(key, [at])[0]:
            name, stream = json.loads(key)
            yield name, stream, said


def _described(change: Mapping[str, Any]) -> str:
    if "column" not in change:
        return ""
    return f"column {change['column']!r}: {change['before'] or 'new'} → {change['after'] or 'gone'}"


def _sentence(alert: Alert) -> str:
    where = " → ".join(filter(None, (alert.collector, alert.stream)))
    return f"api2db: {where}: {alert.text} ({alert.condition})" + (" is over" if alert.state == "over" else "")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
