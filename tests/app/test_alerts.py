"""Alerts: told once when they begin, once when they are over, and never in the way of a row."""

import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pandas as pd
import pytest

from api2db import AlertCommand, Run, Stream2Sql, Webhook
from api2db.app import alerts as alerts_module
from api2db.app.alerts import Alert, Alerts
from api2db.app.figures import CollectorFigures, read_figures
from api2db.errors import ConfigurationError
from api2db.ingest import CollectorStatus
from api2db.journal import journal_store
from tests.app.test_figures import collector, stream
from tests.stream.eventually import eventually

NOW_S = 10_000.0


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Told:
    """A receiver that remembers."""

    on: Sequence[str]
    alerts: list[Alert] = field(default_factory=list)

    def send(self, alert: Alert) -> None:
        self.alerts.append(alert)


def check(home: Path, told: Told, *found: Sequence[CollectorFigures]) -> list[tuple[str, str]]:
    """Check several states of a project, one after the other."""
    alerts = Alerts(home, [told])
    with alerts.sending():
        for at, collectors in enumerate(found):
            alerts.check(collectors, NOW_S + at)
        eventually(lambda: not alerts._queues[0].unsent)
    return [(alert.state, alert.condition) for alert in told.alerts]


def cities(**changes: object) -> list[CollectorFigures]:
    return [collector(stream(**changes))]


@pytest.mark.parametrize(
    ("condition", "wrong"),
    [
        ("rejected", {"rows_rejected": 1}),
        ("parked", {"rows_parked": 1}),
        ("dead", {"running": False}),
        ("lag>60s", {"rows_waiting": 3, "oldest_ns": 1}),
    ],
)
def test_a_condition_is_told_once_when_it_begins_and_once_when_it_is_over(
    tmp_path: Path, condition: str, wrong: dict[str, object]
) -> None:
    told = Told([condition])
    seen = check(tmp_path, told, cities(), cities(**wrong), cities(**wrong), cities(), cities())
    assert seen == [("begun", condition), ("over", condition)]
    assert told.alerts[0].stream == "duckdb:x#cities"


def test_a_restart_of_the_run_tells_nothing_twice(tmp_path: Path) -> None:
    assert check(tmp_path, Told(["rejected"]), cities(rows_rejected=1)) == [("begun", "rejected")]
    assert check(tmp_path, Told(["rejected"]), cities(rows_rejected=2)) == []
    assert check(tmp_path, Told(["rejected"]), cities()) == [("over", "rejected")]
    assert (tmp_path / "CACHE" / "alerts.json").stat().st_mode & 0o777 == 0o600


def test_polls_that_fail_for_long_are_told(tmp_path: Path) -> None:
    def failing(since: float) -> list[CollectorFigures]:
        status = CollectorStatus("cities", 1, last_error="OSError: down", failing_since=since)
        return [dataclasses.replace(collector(stream()), status=status)]

    told = Told(["poll_failing>10min"])
    assert check(tmp_path, told, failing(NOW_S - 500), failing(NOW_S - 700)) == [("begun", "poll_failing>10min")]
    assert "OSError: down" in told.alerts[0].text


def test_a_change_of_the_schema_is_told(tmp_path: Path) -> None:
    told = Told(["schema_change"])
    with Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path) as cities_stream:
        cities_stream.q.put(pd.DataFrame({"id": [1]}))
        assert cities_stream.flush(20)
        alerts = Alerts(tmp_path, [told])
        with alerts.sending():
            eventually(lambda: journal_store(tmp_path).details("cities"))
            alerts.check(read_figures(tmp_path))
            cities_stream.q.put(pd.DataFrame({"id": [1], "name": ["Ulm"]}))
            assert cities_stream.flush(20)
            eventually(lambda: _checked(alerts, tmp_path, told))
    [alert] = told.alerts
    assert (alert.state, alert.text) == ("begun", "column 'name': new → TEXT")


def _checked(alerts: Alerts, home: Path, told: Told) -> list[Alert]:
    alerts.check(read_figures(home))
    return told.alerts


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that refuses once, then takes what is sent."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        refused = False

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if Handler.refused:
                taken.append(body | {"auth": self.headers.get("Authorization")})
            self.send_response(200 if Handler.refused else 503)
            self.end_headers()
            Handler.refused = True

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", taken
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("form", ["json", "slack"])
def test_a_webhook_is_tried_again_until_it_takes_the_alert(
    tmp_path: Path,
    hook: tuple[str, list[dict[str, Any]]],
    form: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url, taken = hook
    monkeypatch.setenv("HOOK_CANARY", "canary-77\n")
    headers = {"Authorization": "Bearer $HOOK_CANARY"}
    receiver = Webhook(f"{url}$HOOK_CANARY", on=["rejected"], form=form, headers=headers)
    alerts = Alerts(tmp_path, [receiver])
    with alerts.sending():
        alerts.check(cities(rows_rejected=1))
        [body] = eventually(lambda: taken)
    said = "api2db: cities → duckdb:x#cities: 1 row rejected (rejected)"
    assert body["text" if form == "slack" else "message"] == said
    assert body["auth"] == "Bearer canary-77"
    assert "tried again" in caplog.text
    assert "canary" not in caplog.text + repr(receiver) + (tmp_path / "CACHE" / "alerts.json").read_text()


def test_a_command_gets_the_alert_on_its_input(tmp_path: Path) -> None:
    file = tmp_path / "told"
    script = f"import sys; open({str(file)!r}, 'w').write(sys.stdin.read())"
    alerts = Alerts(tmp_path, [AlertCommand([sys.executable, "-c", script], on=["rejected"])])
    with alerts.sending():
        alerts.check(cities(rows_rejected=1))
        said = json.loads(eventually(lambda: file.exists() and file.read_text()) or "")
    assert (said["state"], said["collector"], said["text"]) == ("begun", "cities", "1 row rejected")


def test_a_receiver_that_hangs_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts_module, "_MOST_QUEUED", 10)

    class Hanging:
        on = ("rejected",)
        asked = threading.Event()
        ended = threading.Event()

        def send(self, alert: Alert) -> None:
            self.asked.set()
            self.ended.wait()

    hanging, told = Hanging(), Told(["rejected"])
    alerts = Alerts(tmp_path, [hanging, told])
    with alerts.sending():
        for at in range(30):
            alerts.check(cities(rows_rejected=at % 2), NOW_S + at)
        assert hanging.asked.wait(20)
        eventually(lambda: told.alerts)
        assert len(alerts._queues[0].unsent) == 10
        hanging.ended.set()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Webhook("http://h/", on=["lag"]), "no condition 'lag'"),
        (lambda: Webhook("http://h/", on=["lag>5"]), "no condition 'lag>5'"),
        (lambda: Webhook("http://h/", on=["rejectd"]), "give one of: lag>60s"),
        (lambda: Webhook("http://h/", on="rejected"), "on is a list"),
        (lambda: Webhook("http://h/", on=[]), "such as .*'rejected'"),
        (lambda: Webhook("ftp://h/", on=["dead"]), "http or https"),
        (lambda: Webhook("http://h/", on=["dead"], form="teams"), "give 'json' or 'slack'"),
        (lambda: Webhook("http://h/$NO_SUCH_KEY", on=["dead"]), "names .NO_SUCH_KEY"),
        (lambda: Webhook("http://h:canary/", on=["dead"]), "must be an http or https"),
        (lambda: Webhook("http://h/canary 1", on=["dead"]), "percent-encode"),
        (lambda: Webhook("http://canary@h/", on=["dead"]), "Authorization"),
        (
            lambda: Webhook("http://h/", on=["dead"], headers={"X-Key": "can\nary"}),
            "'X-Key' of .* has a character",
        ),
        (
            lambda: Webhook("http://h/", on=["dead"], headers={"X-Key": "$canary"}),
            "'X-Key' of .* names a variable",
        ),
        (lambda: AlertCommand("mail me", on=["dead"]), "is a list"),
        (lambda: Run([], alerts=["http://h/"]), "list of receivers"),  # type: ignore[list-item]
    ],
)
def test_what_can_not_be_used_is_said_at_once(make: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as raised:
        make()
    assert "canary" not in str(raised.value)


def test_what_was_not_sent_is_sent_by_the_next_run(tmp_path: Path) -> None:
    class Away(Told):
        def send(self, alert: Alert) -> None:
            raise OSError

    away = Alerts(tmp_path, [Away(["rejected"])])
    with away.sending():
        away.check(cities(rows_rejected=1))
    told = Told(["rejected"])
    with Alerts(tmp_path, [told]).sending():
        [alert] = eventually(lambda: told.alerts)
    assert (alert.state, alert.text) == ("begun", "1 row rejected")


@pytest.mark.parametrize(
    "unseen",
    [
        {"running": False},
        {"error": "its journal can't be read", "streams": ()},
        {"status": CollectorStatus("cities", 1, polls=1)},
        {"status": CollectorStatus("cities", 1, polls=1, failed=1, last_error="OSError: down", failing_since=NOW_S)},
    ],
    ids=["died", "unreadable", "first_poll", "failed_again"],
)
def test_polls_that_fail_are_not_over_before_one_succeeds(tmp_path: Path, unseen: dict[str, Any]) -> None:
    failing = CollectorStatus("cities", 1, polls=5, failed=5, last_error="OSError: down", failing_since=NOW_S - 700)
    found = dataclasses.replace(collector(stream()), status=failing)
    well = dataclasses.replace(found, status=CollectorStatus("cities", 1, polls=2))
    told = Told(["poll_failing>10min"])
    states = [[found], [dataclasses.replace(found, **unseen)]]
    assert check(tmp_path, told, *states) == [("begun", "poll_failing>10min")]
    assert check(tmp_path, told, [well])[1:] == [("over", "poll_failing>10min")]


def test_a_stream_that_has_just_been_started_is_not_dead(tmp_path: Path) -> None:
    assert check(tmp_path, Told(["dead"]), cities(running=False), cities(), cities(running=False)) == []


def test_a_redirect_of_a_webhook_is_not_followed(tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append("POST")
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()

        def do_GET(self) -> None:
            asked.append("GET")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        receiver = Webhook(f"http://127.0.0.1:{server.server_port}/", on=["dead"])
        with pytest.raises(HTTPError, match="302"):
            receiver.send(Alert("begun", "dead", "cities", "", "", 0.0))
        server.shutdown()
        thread.join()
    assert asked == ["POST"]


def test_a_command_that_fails_does_not_show_its_arguments() -> None:
    receiver = AlertCommand([sys.executable, "-c", "raise SystemExit('no mail')", "canary-79"], on=["dead"])
    with pytest.raises(OSError, match="exit code 1: no mail") as raised:
        receiver.send(Alert("begun", "dead", "cities", "", "", 0.0))
    assert "canary" not in f"{raised.value}{receiver}"


def test_a_request_that_can_not_be_sent_does_not_show_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_CANARY", "x")
    receiver = Webhook("http://127.0.0.1/$HOOK_CANARY", on=["dead"])
    monkeypatch.setenv("HOOK_CANARY", "canary 80")
    with pytest.raises(OSError, match="InvalidURL") as raised:
        receiver.send(Alert("begun", "dead", "cities", "", "", 0.0))
    assert "canary" not in str(raised.value)


def test_a_command_may_leave_a_process_running(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    receiver = AlertCommand(["/bin/sh", "-c", f"sleep 60 & echo $! > {file}"], on=["dead"])
    try:
        receiver.send(Alert("begun", "dead", "cities", "", "", 0.0))  # raises TimeoutError if it waits for that one
    finally:
        os.kill(int(file.read_text()), signal.SIGKILL)


def test_a_command_that_hangs_is_ended_with_all_that_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts_module, "_SEND_S", 0.3)
    file = tmp_path / "pid"
    receiver = AlertCommand(["/bin/sh", "-c", f"sleep 60 & echo $! > {file}; wait"], on=["dead"])
    with pytest.raises(TimeoutError, match="did not end"):
        receiver.send(Alert("begun", "dead", "cities", "", "", 0.0))
    eventually(lambda: not is_alive(int(file.read_text())))


def test_a_command_that_is_missing_is_not_shown() -> None:
    with pytest.raises(OSError, match="can't be started: No such file") as raised:
        AlertCommand(["/canary"], on=["dead"]).send(Alert("begun", "dead", "cities", "", "", 0.0))
    assert "canary" not in str(raised.value)


def test_a_run_that_ends_with_an_error_sends_nothing_twice(tmp_path: Path) -> None:
    told = Told(["rejected"])
    alerts = Alerts(tmp_path, [told])

    def run() -> None:
        with alerts.sending():
            alerts.check(cities(rows_rejected=1))
            assert eventually(lambda: not alerts._queues[0].unsent)
            raise ConfigurationError

    with pytest.raises(ConfigurationError):
        run()
    assert not Alerts(tmp_path, [told])._queues[0].unsent


def test_what_could_not_be_stored_is_stored_by_the_next_check(tmp_path: Path) -> None:
    told, folder = Told(["rejected"]), tmp_path / "CACHE"
    folder.touch()  # no folder can be made there
    alerts = Alerts(tmp_path, [told])
    alerts.check(cities(rows_rejected=1))
    folder.unlink()
    alerts.check(cities(rows_rejected=1))
    [alert] = Alerts(tmp_path, [told])._queues[0].unsent
    assert alert.state == "begun"
