"""A process that puts numbered frames: python -m tests.journal.child HOME LOG FIRST COUNT [options as JSON]."""

import json
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from api2db.errors import JournalWriteError
from api2db.journal._journal import SegmentedJournal
from tests.faults.children import Acknowledgements
from tests.journal.tools import STREAM, frame


def main(home: str, log: str, first: str, count: str, options: str = "{}") -> None:
    wanted: dict[str, Any] = {
        "durability": "full",
        "size_bytes": 20,
        "rows": 1,
        "frames": 1,
        "segment_bytes": 64 << 20,
        "limit": 0,
    }
    wanted |= json.loads(options)
    journal = SegmentedJournal(Path(home), "flights", wanted["durability"], segment_bytes=wanted["segment_bytes"])
    journal.attach(STREAM)
    said = Acknowledgements(Path(log))
    say("ready")
    if wanted["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (wanted["limit"], wanted["limit"]))
    for number in range(int(first), int(first) + int(count)):
        frames = [frame(number, wanted["rows"], wanted["size_bytes"]) for _ in range(wanted["frames"])]
        try:
            journal.append(frames, cursor={"n": number})
        except JournalWriteError as error:
            say(f"unknown {number}: {error}")
        else:
            said.add(number)
    journal.close()
    say("closed")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with ThreadPoolExecutor(
        1
    ) as thread:  # Not the main thread, which has others make its calls: strace counts by thread.
        thread.submit(main, *sys.argv[1:]).result()
