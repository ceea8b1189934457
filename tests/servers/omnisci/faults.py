"""Switches for what a server does when all is not well."""

import threading
from collections import deque
from dataclasses import dataclass, field

WITHIN_S = 30


@dataclass
class Faults:
    """Each switch holds until it is set back, or is spent.

    Attributes:
        refuse: What the next loads are refused with, one each, before they change anything.
        lose_answers: So many loads are carried out, and the connection is closed instead of an answer.
        cut_before_loads: So many loads find the connection closed instead, and are not carried out.
        loads_go_on: While it is cleared, loads stop with the table's lock in their hands.
        loading: Set while a load stands there.
        session_ended: What is said of a session that has ended.
    """

    refuse: deque[str] = field(default_factory=deque)
    lose_answers: int = 0
    cut_before_loads: int = 0
    loads_go_on: threading.Event = field(default_factory=threading.Event)
    loading: threading.Event = field(default_factory=threading.Event)
    session_ended: str = "Session not valid or expired."

    def __post_init__(self) -> None:
        self.loads_go_on.set()

    def wait(self) -> None:
        """Where a load stops, if it is to."""
        self.loading.set()
        assert self.loads_go_on.wait(WITHIN_S), "a load was held and never let go"
        self.loading.clear()
