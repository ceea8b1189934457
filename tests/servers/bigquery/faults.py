"""Switches that let calls fail: before they do anything, or after they have done it."""

import random
import threading
from dataclasses import dataclass, field
from typing import Literal

Moment = Literal["before", "after"]
Kind = Literal["unavailable", "internal", "quota", "forbidden", "invalid", "cut"]


@dataclass
class _Fault:
    method: str
    moment: Moment
    kind: Kind
    times: float
    chance: float


@dataclass
class Faults:
    """What is to fail, by the method's name: ``AppendRows``, ``jobs.insert``, ``tables.get`` and so on.

    Attributes:
        calls: How often each method was called.
        met: How often each was made to fail.
        of_loads: For which reasons the next load jobs fail, which are answered well.
        of_transactions: With which words the next transactions fail.
        stalled: The methods that never answer.
    """

    calls: dict[str, int] = field(default_factory=dict)
    met: dict[str, int] = field(default_factory=dict)
    of_loads: list[str] = field(default_factory=list)
    of_transactions: list[str] = field(default_factory=list)
    stalled: set[str] = field(default_factory=set)
    _faults: list[_Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _dice: random.Random = field(default_factory=lambda: random.Random(1), repr=False)

    def fail(
        self, method: str, moment: Moment, kind: Kind = "unavailable", *, times: float = 1, chance: float = 1
    ) -> None:
        """Have a method fail so many times; with a chance below 1, now and then."""
        with self._lock:
            self._faults.append(_Fault(method, moment, kind, times, chance))

    def heal(self) -> None:
        with self._lock:
            self._faults.clear()
            self.of_loads.clear()
            self.of_transactions.clear()
            self.stalled.clear()

    def count(self, method: str) -> None:
        with self._lock:
            self.calls[method] = self.calls.get(method, 0) + 1

    def meet(self, method: str, moment: Moment) -> Kind | None:
        """The kind of failure that a call meets now; None for none."""
        with self._lock:
            for fault in self._faults:
                if (fault.method, fault.moment) != (method, moment) or fault.times < 1:
                    continue
                if self._dice.random() >= fault.chance:
                    continue
                fault.times -= 1
                self.met[method] = self.met.get(method, 0) + 1
                return fault.kind
        return None
