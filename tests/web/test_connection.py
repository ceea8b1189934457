"""Connections of the page: one on which no request arrives is closed, one that is answered is not."""

import socket
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import httpx2
import pytest

from api2db.web import _connection, _feed, serve
from tests.servers.processes import free_port
from tests.stream.eventually import eventually
from tests.web.test_beside_a_run import answers

WHOLE = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def is_closed_after(sent: bytes, port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.settimeout(20)
        client.sendall(sent)
        try:
            while client.recv(4096):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
    return True


def test_clients_that_send_no_whole_request_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection, "_REQUEST_S", 0.2)
    monkeypatch.setattr(_feed, "_KEEP_ALIVE_S", 0.1)
    port, seen = free_port(), dict[str, object]()

    def look(end: Callable[[], None]) -> None:
        try:
            eventually(lambda: answers(port))
            with httpx2.stream("GET", f"http://127.0.0.1:{port}/events", timeout=30) as events:
                texts = events.iter_text()
                seen["first event"] = next(texts)
                for name, sent in {"nothing": b"", "half": WHOLE[:-2], "half more": WHOLE + WHOLE[:-2]}.items():
                    seen[name] = is_closed_after(sent, port)
                seen["comments"] = "".join(islice(texts, 12)).count(": nothing new") > 8
        finally:
            end()

    def beside(end: Callable[[], None]) -> None:
        thread.append(threading.Thread(target=look, args=(end,)))
        thread[0].start()

    thread = list[threading.Thread]()
    serve(tmp_path, f"127.0.0.1:{port}", lambda _: None, beside)
    thread[0].join()
    assert seen == {
        "first event": "retry: 2000\n\n",
        "nothing": True,
        "half": True,
        "half more": True,
        "comments": True,
    }
