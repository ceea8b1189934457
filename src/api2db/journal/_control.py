"""Requests of commands to the owner of a journal: a file for each request, and one for its answer.

A request also updates the time of one file beside all journals of the project. An owner of many journals watches that
file instead of a folder of requests for each journal.
"""

import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from api2db.disk.atomic import is_temporary, make_folders, replacing
from api2db.errors import JournalBusyError
from api2db.journal._requests import Answers, answered, result_in

_ANSWER = ".answer"
_LAST_REQUEST = ".requests"
_POLL_S = 0.05  # the answer is another process's file, of which no call that all systems have tells when it is there
_KEPT_S = 60


def ask(folder: Path, verb: str, arguments: Mapping[str, Any], timeout_s: float = 15.0) -> Any:
    """Ask the running owner of a journal, and wait for what it says.

    Raises:
        JournalBusyError: It does not answer.
        Api2dbError: What the owner says against it.
    """
    control = folder / "control"
    make_folders(control)
    request = control / f"{time.time_ns()}-{os.getpid()}-{secrets.token_hex(4)}.json"
    answer = request.with_suffix(_ANSWER)
    asked = {"verb": verb, "arguments": dict(arguments), "until": time.time() + timeout_s}
    try:
        with replacing(request) as file:
            file.write(json.dumps(asked).encode())
        _record_time(folder.parent)
        said = _wait_for(answer, timeout_s)
    finally:
        request.unlink(missing_ok=True)
        answer.unlink(missing_ok=True)
    if said is None:
        raise JournalBusyError(f"the process that owns {folder} does not answer; stop it, then try again")
    return result_in(said)


def last_request_ns(journals: Path) -> int | None:
    """The time of the last request to a journal of the project; None if there was none."""
    try:
        return os.stat(journals / _LAST_REQUEST).st_mtime_ns
    except OSError:
        return None


def _record_time(journals: Path) -> None:
    """Record the time of a request. If that fails, the owner finds the request in its next round."""
    with suppress(OSError):
        fd = os.open(journals / _LAST_REQUEST, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            now_ns = time.time_ns()
            os.utime(fd, ns=(now_ns, now_ns))  # given, since the kernel's own clock may stand still for some ms
        finally:
            os.close(fd)


def serve_requests(folder: Path, answers: Answers) -> None:
    """Answer the waiting requests; remove those that expired, and old answers."""
    control = folder / "control"
    if not control.exists():
        return
    for path in sorted(control.iterdir()):
        if path.suffix == ".json" and not is_temporary(path):
            said = _answer(path, answers)
            if said is not None:
                with replacing(path.with_suffix(_ANSWER)) as file:
                    file.write(said)
            path.unlink(missing_ok=True)
        elif _is_old(path):
            path.unlink(missing_ok=True)


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _KEPT_S
    except FileNotFoundError:  # whoever asked has taken it away meanwhile
        return False


def _wait_for(answer: Path, timeout_s: float) -> bytes | None:
    deadline = time.monotonic() + timeout_s
    while not answer.exists():
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL_S)
    return answer.read_bytes()


def _answer(path: Path, answers: Answers) -> bytes | None:
    try:
        text = path.read_text()
    except FileNotFoundError:  # whoever asked has given up meanwhile
        return None
    return answered(text, answers)
