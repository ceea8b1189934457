"""Each of these bugs is planted, and a test of the log catches it."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from api2db.cluster._connection import Message
from api2db.cluster._jetstream import JetStream
from api2db.cluster._leases import Session
from api2db.cluster._publisher import Publisher
from api2db.errors import JournalError
from tests.cluster import test_log
from tests.cluster.journals import Machines

CAUGHT = (AssertionError, IndexError, JournalError, pytest.fail.Exception)


def caught(test: Callable[..., None], *arguments: Any) -> None:
    with pytest.raises(CAUGHT):
        test(*arguments)


def test_publishing_wherever_the_log_ends(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    real = JetStream.publish

    def publish_anyhow(jetstream: JetStream, messages: Sequence[Message], **_: Any) -> int:
        return [real(jetstream, message) for message in messages][-1]

    monkeypatch.setattr(JetStream, "publish_together", publish_anyhow)
    caught(test_log.test_a_publication_whose_answer_is_lost_counts_once, machines, monkeypatch)
    caught(test_log.test_a_second_owner_fences_the_first, machines, monkeypatch)


def test_claiming_what_a_living_worker_has(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "_check_gone", lambda *_: None)
    caught(test_log.test_a_second_owner_fences_the_first, machines, monkeypatch)


def test_acknowledging_before_publishing(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Publisher, "publish", lambda *_: None)
    caught(test_log.test_rows_and_the_state_that_were_put_on_one_machine_are_delivered_by_another, machines)
