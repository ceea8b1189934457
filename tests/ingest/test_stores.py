"""A store on its clock: one round that fails, however it does, is followed by the next."""

import logging
import threading

import pytest

from api2db.ingest.stores import StoreRounds


class Exits:
    """A store whose first round ends the program, as it thinks."""

    seconds = 0.01

    def __init__(self) -> None:
        self.rounds = 0
        self.second = threading.Event()

    def store(self) -> None:
        self.rounds += 1
        if self.rounds == 1:
            raise SystemExit("enough")
        self.second.set()


def test_a_store_that_calls_exit_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    store, stopping, failed = Exits(), threading.Event(), threading.Event()
    rounds = StoreRounds("flights", store, stopping, failed.set)
    try:
        assert store.second.wait(20)
    finally:
        stopping.set()
        rounds.stop(20)
    assert failed.is_set()
    assert "SystemExit: enough" in caplog.text
    assert [record.levelno >= logging.WARNING for record in caplog.records][:1] == [True]
