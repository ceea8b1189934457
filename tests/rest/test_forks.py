"""A forked child has connections, paces and locks of its own."""

import os
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from api2db.rest import OAuth2ClientCredentials, RestApi
from api2db.rest import _hosts as hosts
from api2db.rest._addresses import origin_of
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply


def forked(work: Callable[[], object]) -> int:
    """Run something in a forked child; return the child's id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    except BaseException:  # noqa: BLE001 - it becomes the exit code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ended_well(pid: int) -> bool:
    return os.waitpid(pid, 0)[1] == 0


def echo(asked: Asked) -> Reply:
    return Reply([{"path": asked.path, "n": asked.params["n"]}])


def poll_often(url: str, path: str) -> None:
    for number in range(50):
        rows = Polled(RestApi(url).get(path, params={"n": number})).poll()
        assert rows == [{"path": path, "n": str(number)}]


@pytest.mark.timeout(60)
def test_parent_and_child_poll_at_the_same_time_and_each_gets_its_own_answers(serve: Serve) -> None:
    url = serve(echo).url
    poll_often(url, "/parent")
    pid = forked(lambda: poll_often(url, "/child"))
    poll_often(url, "/parent")
    assert ended_well(pid)


@pytest.mark.timeout(60)
def test_a_child_does_not_wait_for_locks_of_its_parent(serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply({"access_token": "t-1"}) if asked.path == "/token" else Reply([{"id": 1}])

    url = serve(answer).url
    auth = OAuth2ClientCredentials(f"{url}/token", "me", "s-1")
    resource = RestApi(url, auth=auth, max_poll_time="5s").get("/x")
    Polled(resource).poll()
    host = hosts.host_of(origin_of(url))
    with ExitStack() as stack:
        locks: list[threading.Lock] = [hosts._hosts._lock, auth._token.lock]
        for lock in locks:
            stack.enter_context(lock)
        pid = forked(lambda: Polled(resource).poll())
    assert ended_well(pid)
    assert hosts.host_of(origin_of(url)) is host
