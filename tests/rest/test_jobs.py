"""Asynchronous jobs: submitted once, waited for, downloaded, and gone on with after a crash."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from api2db.errors import ConfigurationError, PollError
from api2db.rest import BearerToken, Cursor, Job, NextToken, PageNumber, Resource, RestApi
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply, Server

CANARY = "canary-44b1"
ROWS = [{"id": number, "updated": f"2024-05-{number:02}"} for number in range(1, 11)]


class Exports:
    """Jobs that are done at the third look, with the rows since a day."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.states = ["queued", "running", "done"]
        self.headers: dict[str, str] = {}
        self.rows = ROWS
        self.gone = ""

    def __call__(self, asked: Asked) -> Reply:
        if asked.path == "/exports":
            self.jobs.append({**asked.json, "looks": 0})
            return Reply({"id": f"j/{len(self.jobs)}"}, 202)
        _, _, name, *below = asked.path.split("/")
        assert name == f"j%2F{len(self.jobs)}"
        if below == [self.gone] or (self.gone == "job" and not below):
            return Reply("gone", 410)
        job = self.jobs[-1]
        if not below:
            state = self.states[min(job["looks"], len(self.states) - 1)]
            job["looks"] += 1
            urls = [f"/exports/{name}/{number}?sig={CANARY}" for number in range(3)]
            return Reply({"state": state, "urls": urls}, headers=self.headers)
        rows = [row for row in self.rows if row["updated"] >= job.get("since", "")]
        if below == ["rows"]:
            size, page = 4, int(asked.params.get("page", 1))
            return Reply({"rows": rows[(page - 1) * size : page * size]})
        return Reply(
            "\n".join(["id,updated", *(f"{row['id']},{row['updated']}" for row in rows[int(below[0]) :: 3])]).encode()
        )


def job(**options: Any) -> Job:
    told: dict[str, Any] = {"id": "id", "status": "/exports/{id}", "state": "state", "done": "done", "failed": "failed"}
    place = {} if "result" in options else {"result_url": "urls"}
    return Job(**{**told, "every": "10ms", **place, **options})


def exported(server: Server, made: Job | None = None, **options: Any) -> Resource:
    api = RestApi(server.url, auth=BearerToken(CANARY), max_poll_time=options.pop("max_poll_time", "1h"))
    cursor = Cursor("updated", param="since", overlap="2d")
    return api.post(
        "/exports", **{"json": {"kind": "all"}, "format": "csv", "cursor": cursor, "job": made or job(), **options}
    )


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(int(row["id"]) for row in rows)


def test_a_job_is_submitted_waited_for_and_its_files_are_downloaded(serve: Serve) -> None:
    exports = Exports()
    server = serve(exports)
    polled = Polled(exported(server))
    assert ids(polled.poll()) == list(range(1, 11))
    assert [asked.method for asked in server.asked] == ["POST", "GET", "GET", "GET", "GET", "GET", "GET"]
    assert all(asked.headers["authorization"] == f"Bearer {CANARY}" for asked in server.asked)
    exports.rows = [*ROWS, {"id": 11, "updated": "2024-05-11"}]
    assert ids(polled.poll()) == [11]
    assert [one.get("since") for one in exports.jobs] == [None, "2024-05-08"]
    assert "job" not in polled.state
    assert polled.state["cursor"] == "2024-05-11"


def test_a_result_may_have_a_path_and_pages(serve: Serve) -> None:
    exports = Exports()
    server = serve(exports)
    made = job(result="/exports/{id}/rows")
    polled = Polled(exported(server, made, format="json", pagination=PageNumber(size=4), records="rows"))
    assert ids(polled.poll()) == list(range(1, 11))
    assert exports.jobs == [{"kind": "all", "looks": 3}]
    assert [asked.params for asked in server.asked[-3:]] == [{"page": f"{n}", "per_page": "4"} for n in (1, 2, 3)]


def test_whatever_poll_is_ended_the_next_one_goes_on_with_the_job(serve: Serve) -> None:
    exports = Exports()
    server = serve(exports)
    made = job(idempotency_header="Idempotency-Key")
    rows: list[dict[str, Any]] = []
    state: dict[str, Any] = {}
    for _ in range(10):  # each poll ends after the first frame that has something new
        polled = Polled(exported(server, made))
        polled.state = json.loads(json.dumps(state))
        before = state
        for page in polled.resource(polled.state):
            polled.take(page)
            state = json.loads(json.dumps(polled.state))
            assert CANARY not in json.dumps(state)
            if state != before:
                break
        rows += polled.rows
        if "cursor" in state:
            break
    assert ids(rows) == list(range(1, 11))
    assert len(exports.jobs) == 1
    assert len({asked.headers["idempotency-key"] for asked in server.asked if asked.method == "POST"}) == 1


def test_a_poll_that_takes_too_long_leaves_the_job_to_the_next_one(serve: Serve) -> None:
    exports = Exports()
    exports.states, exports.headers = ["running"], {"Retry-After": "60"}
    polled = Polled(exported(serve(exports), max_poll_time="10s"))
    with pytest.raises(PollError, match=r"still 'running'.*max_poll_time.*the next poll goes on with it"):
        polled.poll()
    exports.states = ["done"]
    assert len(polled.poll()) == 10
    assert len(exports.jobs) == 1


def test_pauses_grow_and_the_server_may_ask_for_longer_ones(serve: Serve) -> None:
    exports = Exports()
    exports.states = ["running"] * 4 + ["done"]
    polled = Polled(exported(serve(exports), job(every="50ms")))
    begin_s = time.monotonic()
    polled.poll()
    assert time.monotonic() - begin_s > 0.15
    exports.headers = {"Retry-After": "1"}
    exports.states = ["running", "done"]
    begin_s = time.monotonic()
    polled.poll()
    assert time.monotonic() - begin_s > 1


def lost(what: str) -> Callable[[Exports], object]:
    return lambda exports: setattr(exports, "gone", what)


LOSSES: dict[str, tuple[Callable[[Exports], object], str]] = {
    "it failed": (lambda exports: exports.states.__setitem__(0, "failed"), "the job ended as 'failed'"),
    "it is gone": (lost("job"), "HTTP 410.*the job is gone"),
    "its result is gone": (lost("1"), "HTTP 410.*the result is gone"),
}


@pytest.mark.parametrize(("lose", "says"), LOSSES.values(), ids=LOSSES)
def test_a_job_without_a_result_is_an_error_and_the_next_poll_submits_another(
    serve: Serve, lose: Callable[[Exports], object], says: str
) -> None:
    exports = Exports()
    server = serve(exports)
    lose(exports)
    polled = Polled(exported(server))
    with pytest.raises(PollError, match=says) as caught:
        polled.poll()
    assert CANARY not in str(caught.value)
    assert "job" not in polled.state
    exports.gone, exports.states = "", ["done"]
    polled.poll()
    assert sorted(set(ids(polled.rows))) == list(range(1, 11))
    assert len(exports.jobs) == 2


def test_a_job_that_is_never_done_is_given_up(serve: Serve) -> None:
    exports = Exports()
    exports.states, exports.headers = ["running"], {"Retry-After": "60"}
    polled = Polled(exported(serve(exports), job(give_up_after="1h"), max_poll_time="10s"))
    with pytest.raises(PollError):
        polled.poll()
    polled.state["job"]["begun"] -= 3601
    exports.states = ["done"]
    assert len(polled.poll()) == 10
    assert len(exports.jobs) == 2


def test_a_job_without_files_has_no_rows(serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply({"id": 1} if asked.method == "POST" else {"state": "done", "urls": None})

    server = serve(answer)
    with pytest.raises(PollError, match=r"no URL at result_url='urls'.*write result_url='urls \|\| `\[\]`'"):
        Polled(exported(server)).poll()
    polled = Polled(exported(server, job(result_url="urls || `[]`")))
    assert polled.poll() == []
    assert polled.state == {}


ANSWERS: dict[str, tuple[Any, str]] = {
    "no id": ({"name": 1}, "/exports: the answer has no id of a job at 'id'"),
    "no state": ({"id": 1}, "/exports/1: the answer has no state at 'state'"),
}


@pytest.mark.parametrize(("body", "says"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_not_as_described_is_told_of(serve: Serve, body: Any, says: str) -> None:
    with pytest.raises(PollError, match=says):
        Polled(exported(serve(lambda asked: Reply(body)))).poll()


def resource(**options: Any) -> Resource:
    return RestApi("https://x").post("/exports", **{"json": {}, "job": job(), **options})


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a misspelled argument": (lambda: job(idd="x"), "did you mean 'id'"),
    "no place of the id": (lambda: job(status="/exports"), r"status of Job is '/exports'; it needs \{id\}"),
    "two results": (lambda: job(result="/{id}", result_url="urls"), "either result="),
    "no result": (lambda: Job("id", "/{id}", "state", "done"), "either result="),
    "a state that is both": (lambda: job(failed=("error", "done")), "done of Job needs at least one state"),
    "no path": (lambda: job(state="a..b"), "state of Job"),
    "no duration": (lambda: job(every="often"), "every of Job"),
    "no Job": (lambda: resource(job={"id": "id"}), "job must be a Job"),
    "pages of files": (lambda: resource(pagination=NextToken("t", "t")), "pagination can't be used with result_url"),
    "a parent": (lambda: RestApi("https://x").get("/{id}", for_each=resource()), "for_each is a list that a job makes"),
    "a backfill": (
        lambda: resource(cursor=Cursor("a", param="b", until="c"), keys="id").backfill("2024-01-01", "2024-01-02"),
        "a list that a job makes",
    ),
}


@pytest.mark.parametrize(("make", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_argument_of_a_job_is_an_error_where_it_is_written(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make()
