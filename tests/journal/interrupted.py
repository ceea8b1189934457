"""A process whose puts are interrupted at random: python -m tests.journal.interrupted HOME LOG DURABILITY SECONDS SEED.

The main thread puts numbered frames. A real signal arrives at a random moment of each put, and its handler raises.
After each interrupt the journal must be free and know the size of its segment; else the process says what is wrong.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from api2db.journal import Durability
from api2db.journal._journal import SegmentedJournal
from tests.journal.tools import STREAM, frame

_USUAL_PUTS = 50
_LONG_S = 10.0


class _Interrupt(BaseException):
    """What the handler of a signal raises, as that of SIGINT raises KeyboardInterrupt."""


def _interrupt(*_: object) -> NoReturn:
    raise _Interrupt


def main(home: str, log: str, durability: Durability, seconds: str, seed: str) -> str:
    journal = SegmentedJournal(Path(home), "flights", durability, segment_bytes=100_000)
    journal.attach(STREAM)
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    dice, number, interrupts, usual_s = random.Random(seed), _USUAL_PUTS, 0, _usual_s(journal, said)
    signal.signal(signal.SIGALRM, _interrupt)
    end_s = time.monotonic() + float(seconds)
    while time.monotonic() < end_s:
        number += 1
        try:
            signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-5, 1.3 * usual_s))
            try:
                journal.append([frame(number)])
                os.write(said, b"%d\n" % number)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except _Interrupt:
            interrupts += 1
            if fault := _fault(journal):
                return f"after interrupt {interrupts}: {fault}"
    journal.close()
    return f"{interrupts} interrupts"


def _usual_s(journal: SegmentedJournal, said: int) -> float:
    """How long a put takes."""
    started_s = time.monotonic()
    for number in range(1, _USUAL_PUTS + 1):
        journal.append([frame(number)])
        os.write(said, b"%d\n" % number)
    return (time.monotonic() - started_s) / _USUAL_PUTS


def _fault(journal: SegmentedJournal) -> str | None:
    appender, changed = journal.appender, journal.core.changed
    if not changed.acquire(timeout=_LONG_S):
        return "the lock is held by nobody"
    try:
        if appender._syncing and not changed.wait_for(lambda: not appender._syncing, _LONG_S):
            return "a sync has not ended"
        writer = appender._segment.writer
        if writer is not None and os.fstat(writer._fd).st_size != writer.segment.end:
            return "bytes in the segment are not counted"
    finally:
        changed.release()
    return None


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]))  # type: ignore[arg-type]
    sys.stdout.flush()
