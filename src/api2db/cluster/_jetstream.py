"""Requests to JetStream: streams, messages, and publishing where the end of a stream is as expected."""

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from api2db.cluster._connection import Connection, Message
from api2db.errors import ClusterUnavailableError, JournalError

ANSWER_S: Final = 3.0  # how long one request waits: the election of a leader takes longer, a healthy leader does not
_PAUSE_S: Final = 0.1
_MOST_MESSAGES: Final = 1000
_T = TypeVar("_T")
NO_STREAM: Final = 10059
NO_MESSAGE: Final = 10037
_NAME_IN_USE: Final = 10058
_WRONG_LAST: Final = frozenset({10070, 10071, 10164})
_FULL: Final = frozenset({10047, 10077, 10122})  # account, stream and server are full
_NOW_IMPOSSIBLE: Final = frozenset({10005, 10176})  # too few servers are up for a new stream; a batch is incomplete
_UNAVAILABLE_CODE: Final = 503
_END_STATUS: Final = "204"
_NOTHING_STATUS: Final = "404"


class RefusedError(JournalError):
    """JetStream refuses a request.

    Attributes:
        code: JetStream's number of the reason.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"the cluster refuses: {text} ({code})")
        self.code = code


class MovedError(RefusedError):
    """The end of the stream or of the subject is not where it was expected."""


class FullError(RefusedError):
    """A limit of bytes is reached."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of a stream."""

    sequence: int
    subject: str
    payload: bytes


class JetStream:
    """JetStream of one cluster."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def api(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request to JetStream's API.

        Raises:
            RefusedError: It was refused.
            ClusterUnavailableError: There is no answer.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        answer = self.connection.request(f"$JS.API.{verb}", payload, timeout_s=ANSWER_S)
        return _checked(json.loads(answer.payload))

    def stream(self, name: str) -> dict[str, Any] | None:
        """Configuration and state of a stream; None if there is no such stream."""
        try:
            return self.api(f"STREAM.INFO.{name}")
        except RefusedError as error:
            if error.code == NO_STREAM:
                return None
            raise

    def make_stream(self, config: Mapping[str, Any]) -> None:
        """Create a stream, or give an existing one this configuration where it differs."""
        name = config["name"]
        found = self.stream(name)
        if found is None:
            try:
                self.api(f"STREAM.CREATE.{name}", config)
            except RefusedError as error:
                if error.code != _NAME_IN_USE:
                    raise
        elif any(found["config"].get(key) != value for key, value in config.items()):
            self.api(f"STREAM.UPDATE.{name}", {**found["config"], **config})

    def get(self, stream: str, sequence: int) -> Stored | None:
        """A message by its number, as the stream's leader has it; None if there is none."""
        return self._get(stream, {"seq": sequence})

    def last(self, stream: str, subject: str) -> Stored | None:
        """The last message of a subject, as the stream's leader has it; None if there is none."""
        return self._get(stream, {"last_by_subj": subject})

    def next(self, stream: str, subject: str, sequence: int) -> Stored | None:
        """The first message of a subject from a number on, as the stream's leader has it; None if there is none."""
        return self._get(stream, {"seq": sequence, "next_by_subj": subject})

    def subjects(self, patterns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The subjects that have messages, each with its stream, as the leaders of the streams have them.

        Args:
            patterns: Streams, each with a pattern of its subjects. All are asked at once.
        """
        asked = [(stream, {"subjects_filter": pattern}) for stream, pattern in patterns]
        infos = self._api_each("STREAM.INFO", asked, NO_STREAM)
        return [
            (stream, subject)
            for (stream, _), info in zip(patterns, infos, strict=True)
            if info is not None
            for subject in info["state"].get("subjects") or {}
        ]

    def last_of(self, subjects: Sequence[tuple[str, str]]) -> list[Stored]:
        """The last messages of subjects that have any, as the leaders of their streams have them.

        Args:
            subjects: Streams, each with a subject. All are asked at once.
        """
        asked = [(stream, {"last_by_subj": subject}) for stream, subject in subjects]
        return [_stored(found) for found in self._api_each("STREAM.MSG.GET", asked, NO_MESSAGE) if found is not None]

    def _get(self, stream: str, query: Mapping[str, Any]) -> Stored | None:
        try:
            return _stored(self.api(f"STREAM.MSG.GET.{stream}", query))
        except RefusedError as error:
            if error.code == NO_MESSAGE:
                return None
            raise

    def _api_each(
        self, verb: str, asked: Sequence[tuple[str, Mapping[str, Any]]], missing: int
    ) -> list[dict[str, Any] | None]:
        """Send requests for streams side by side; None instead of the answer that something is missing."""
        requests = [Message(f"$JS.API.{verb}.{stream}", json.dumps(body).encode()) for stream, body in asked]
        answers = [json.loads(answer.payload) for answer in self.connection.request_each(requests, timeout_s=ANSWER_S)]
        return [None if (said.get("error") or {}).get("err_code") == missing else _checked(said) for said in answers]

    def read(self, stream: str, subject: str, sequence: int, size_bytes: int) -> list[Stored]:
        """Messages of a subject from a number on, up to a size, as any server has them."""
        query = {"seq": sequence, "next_by_subj": subject, "batch": _MOST_MESSAGES, "max_bytes": size_bytes}
        return _all_stored(self._answers(stream, query))

    def last_of_each(self, stream: str, subjects: str) -> list[Stored]:
        """The messages of a stream that keeps one of each subject, among those of a pattern, as any server has them.

        Raises:
            ClusterUnavailableError: There is no answer, or not all of it came.
        """
        found: dict[str, Stored] = {}
        begin, is_whole = 1, False
        while not is_whole:
            query = {"seq": begin, "next_by_subj": subjects, "batch": _MOST_MESSAGES}
            some, is_whole = self._read_some(stream, query)
            for stored in some:  # What is replaced meanwhile comes again, further behind.
                found[stored.subject] = stored
                begin = stored.sequence + 1
        return list(found.values())

    def _read_some(self, stream: str, query: Mapping[str, Any]) -> tuple[list[Stored], bool]:
        """Messages, and whether there are no more.

        Raises:
            ClusterUnavailableError: There is no answer, or not all of it came.
        """
        *messages, end = self._answers(stream, query)
        if end.status not in {_END_STATUS, _NOTHING_STATUS}:
            raise ClusterUnavailableError(f"the answer of the cluster breaks off with {end.status or 'a message'}")
        return _all_stored(messages), not messages or end.headers.get("Nats-Num-Pending", "0") == "0"

    def _answers(self, stream: str, query: Mapping[str, Any]) -> list[Message]:
        subject, payload = f"$JS.API.DIRECT.GET.{stream}", json.dumps(query).encode()
        return self.connection.request_many(subject, payload, lambda said: bool(said.status), timeout_s=ANSWER_S)

    def publish(
        self, message: Message, *, expected_last: int | None = None, expected_of_subject: int | None = None
    ) -> int:
        """Publish a message; return its number in the stream.

        Raises:
            MovedError: The stream, or the subject, has another last number than expected.
            FullError: A limit of bytes is reached.
        """
        headers = {**message.headers, **_expected(expected_last, expected_of_subject)}
        answer = self.connection.request(message.subject, message.payload, headers, timeout_s=ANSWER_S)
        return int(_checked(json.loads(answer.payload))["seq"])

    def publish_together(self, messages: Sequence[Message], *, expected_last: int) -> int:
        """Publish messages that are all stored, in this order and without any other between them, or not at all.

        Returns:
            The number of the last one.

        Raises:
            MovedError: The stream has another last number than expected.
            FullError: A limit of bytes is reached.
        """
        if len(messages) == 1:
            return self.publish(messages[0], expected_last=expected_last)
        batch_id = secrets.token_hex(12)
        batch = []
        for number, message in enumerate(messages, 1):
            headers = {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number), **message.headers}
            if number == 1:
                headers |= _expected(expected_last, None)
            if number == len(messages):
                headers["Nats-Batch-Commit"] = "1"
            batch.append(Message(message.subject, message.payload, headers))
        answer = self.connection.request_all(batch, timeout_s=ANSWER_S)
        return int(_checked(json.loads(answer.payload))["seq"])

    def purge(self, stream: str, subject: str, *, before: int | None = None, keep: int | None = None) -> None:
        """Remove messages of a subject: those before a number, or all but the last ones."""
        limits = {"seq": before, "keep": keep}
        self.api(f"STREAM.PURGE.{stream}", {"filter": subject, **{k: v for k, v in limits.items() if v is not None}})


def until_answered(call: Callable[[], _T], timeout_s: float) -> _T:
    """Make a call again while the cluster does not answer.

    Raises:
        ClusterUnavailableError: It did not answer in time.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            return call()
        except ClusterUnavailableError:
            if time.monotonic() >= deadline_s:
                raise
        time.sleep(_PAUSE_S)  # Nobody tells when a leader is elected; the next attempt finds out.


def _expected(last: int | None, of_subject: int | None) -> dict[str, str]:
    headers = {"Nats-Expected-Last-Sequence": last, "Nats-Expected-Last-Subject-Sequence": of_subject}
    return {name: str(value) for name, value in headers.items() if value is not None}


def _stored(answer: Mapping[str, Any]) -> Stored:
    found = answer["message"]
    return Stored(found["seq"], found["subject"], base64.b64decode(found.get("data", "")))


def _all_stored(answers: Sequence[Message]) -> list[Stored]:
    return [
        Stored(int(said.headers["Nats-Sequence"]), said.headers["Nats-Subject"], said.payload)
        for said in answers
        if not said.status
    ]


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    error = answer.get("error")
    if error is None:
        return answer
    code, text = int(error.get("err_code", 0)), str(error.get("description", ""))
    if code in _WRONG_LAST:
        raise MovedError(code, text)
    if code in _FULL:
        raise FullError(code, text)
    if error.get("code") == _UNAVAILABLE_CODE or code in _NOW_IMPOSSIBLE:
        raise ClusterUnavailableError(f"the cluster can't do it now: {text} ({code})")
    raise RefusedError(code, text)
