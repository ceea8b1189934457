"""How a command asks the owner of a journal to write: one file a request, one an answer."""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from api2db.errors import Api2dbError, JournalBusyError
from api2db.formats.atomic import is_temporary, make_folders, replacing

_log = logging.getLogger(__name__)
_ANSWER = ".answer"
_POLL_S = 0.05


def ask(folder: Path, verb: str, arguments: Mapping[str, Any], timeout_s: float = 15.0) -> Any:
    """Ask the running owner of a journal, and wait for what it says.

    Raises:
        JournalBusyError: It does not answer.
        Api2dbError: What the owner says against it.
    """
    inbox = folder / "inbox"
    make_folders(inbox)
    request = inbox / f"{time.time_ns()}-{os.getpid()}.json"
    with replacing(request) as file:
        file.write(json.dumps({"verb": verb, "arguments": dict(arguments)}).encode())
    answer = request.with_suffix(_ANSWER)
    deadline = time.monotonic() + timeout_s
    while not answer.exists():
        if time.monotonic() > deadline:
            request.unlink(missing_ok=True)
            message = f"the process that owns {folder} does not answer; stop it, then try again"
            raise JournalBusyError(message)
        time.sleep(_POLL_S)
    said = json.loads(answer.read_text())
    answer.unlink()
    if "error" in said:
        raise Api2dbError(said["error"])
    return said["result"]


def answer_requests(folder: Path, answers: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> None:
    """Answer whatever lies in the inbox; what nobody fetched within a minute is thrown away."""
    inbox = folder / "inbox"
    if not inbox.exists():
        return
    for path in sorted(inbox.iterdir()):
        if path.suffix == ".json" and not is_temporary(path):
            said = _answer(path, answers)
            with replacing(path.with_suffix(_ANSWER)) as file:
                file.write(json.dumps(said).encode())
            path.unlink(missing_ok=True)
        elif path.suffix == _ANSWER and time.time() - path.stat().st_mtime > 60:
            path.unlink(missing_ok=True)


def _answer(path: Path, answers: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> dict[str, Any]:
    try:
        request = json.loads(path.read_text())
        answer = answers.get(request["verb"])
        if answer is None:
            return {"error": f"this process can't {request['verb']}; its streams are not running"}
        return {"result": answer(request["arguments"])}
    except (Api2dbError, OSError, ValueError, KeyError, TypeError) as error:
        return {"error": str(error) or type(error).__name__}
