"""The requests of commands as the owners of journals of every kind answer them."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from api2db import errors
from api2db.errors import Api2dbError
from api2db.texts import redact

logger = logging.getLogger(__name__)
Answers = Mapping[str, Callable[[Mapping[str, Any]], Any]]


def answered(text: str | bytes, answers: Answers) -> bytes | None:
    """Carry out a request, and encode its result, or why it has none; None if it has expired.

    Args:
        text: A JSON object: ``verb``, ``arguments``, and ``until``, when it expires, seconds since 1970.
        answers: Who answers, by verb.
    """
    try:
        request = json.loads(text)
        if time.time() > request.get("until", float("inf")):
            return None
        answer = answers.get(request["verb"])
        if answer is None:
            return _encoded({"error": f"this process can't {request['verb']}; its streams are not running"})
        return _encoded({"result": answer(request["arguments"])})
    except Api2dbError as error:
        return _encoded({"error": str(error), "kind": type(error).__name__})
    except Exception as error:  # whatever it is, the asker gets it, and the owner of the journal runs on
        logger.warning("a request could not be answered", exc_info=True)
        return _encoded({"error": redact(str(error)) or type(error).__name__})


def result_in(answer: str | bytes) -> Any:
    """The result in an answer.

    Raises:
        Api2dbError: What the owner raised, without its own making, which may ask for more than the text.
    """
    said = json.loads(answer)
    if "error" in said:
        type_ = getattr(errors, said.get("kind", ""), Api2dbError)
        error: Api2dbError = type_.__new__(type_, said["error"])
        raise error
    return said["result"]


def _encoded(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode()
