"""How a command asks the owner of a journal to write: one file a request, one an answer.

Whoever asks rings a bell as well, a file beside all journals of the project whose time changes: so an owner of many
journals looks at one file instead of as many inboxes.
"""

import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from api2db import errors
from api2db.disk.atomic import is_temporary, make_folders, replacing
from api2db.errors import Api2dbError, JournalBusyError
from api2db.texts import redact

logger = logging.getLogger(__name__)
_ANSWER = ".answer"
_BELL = ".requests"
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
    try:
        with replacing(request) as file:
            file.write(_dump({"verb": verb, "arguments": dict(arguments), "until": time.time() + timeout_s}))
        _ring(folder.parent)
        said = _wait_for(answer, timeout_s)
    finally:
        request.unlink(missing_ok=True)
        answer.unlink(missing_ok=True)
    if said is None:
        raise JournalBusyError(f"the process that owns {folder} does not answer; stop it, then try again")
    if "error" in said:
        raise _as_raised(said.get("kind", ""), said["error"])
    return said["result"]


def when_rung(journals: Path) -> int | None:
    """When anybody has asked last for something of a project's journals; None where nobody has."""
    try:
        return os.stat(journals / _BELL).st_mtime_ns
    except OSError:
        return None


def _ring(journals: Path) -> None:
    """Where that fails, the owner finds the request in its next round."""
    with suppress(OSError):
        fd = os.open(journals / _BELL, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            now_ns = time.time_ns()
            os.utime(fd, ns=(now_ns, now_ns))  # given, since the kernel's own clock may stand still for some ms
        finally:
            os.close(fd)


def _as_raised(kind: str, text: str) -> Api2dbError:
    """An error as its owner saw it, without its own making, which may ask for more than the text."""
    type_ = getattr(errors, kind, Api2dbError)
    error: Api2dbError = type_.__new__(type_, text)
    return error


def serve_requests(folder: Path, answers: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> None:
    """Answer the waiting requests; remove those that expired, and old answers."""
    control = folder / "control"
    if not control.exists():
        return
    for path in sorted(control.iterdir()):
        if path.suffix == ".json" and not is_temporary(path):
            said = _answer(path, answers)
            if said is not None:
                with replacing(path.with_suffix(_ANSWER)) as file:
                    file.write(_dump(said))
            path.unlink(missing_ok=True)
        elif _is_old(path):
            path.unlink(missing_ok=True)


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _KEPT_S
    except FileNotFoundError:  # whoever asked has taken it away meanwhile
        return False


def _wait_for(answer: Path, timeout_s: float) -> dict[str, Any] | None:
    deadline = time.monotonic() + timeout_s
    while not answer.exists():
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL_S)
    said: dict[str, Any] = json.loads(answer.read_text())
    return said


def _answer(path: Path, answers: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> dict[str, Any] | None:
    try:
        text = path.read_text()
    except FileNotFoundError:  # whoever asked has given up meanwhile
        return None
    try:
        request = json.loads(text)
        if time.time() > request["until"]:
            return None
        answer = answers.get(request["verb"])
        if answer is None:
            return {"error": f"this process can't {request['verb']}; its streams are not running"}
        said = {"result": answer(request["arguments"])}
        _dump(said)
        return said
    except Api2dbError as error:
        return {"error": str(error), "kind": type(error).__name__}
    except Exception as error:  # whatever it is, the asker gets it, and the owner of the journal runs on
        logger.warning("a request could not be answered", exc_info=True)
        return {"error": redact(str(error)) or type(error).__name__}


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()
