"""A process that puts frames and ends: python -m tests.kills.leaving PROJECT-AS-JSON FRAMES HOW.

HOW: ``exit`` ends as any program does; ``wait`` waits for a signal; ``raise`` ends by an error of its own; ``put`` puts
until a signal arrives.
"""

import json
import sys
import time

from api2db.torture.fork_server import say
from tests.kills.jobs import Producer, Project


def main(project: str, frames: str, how: str) -> None:
    told = Project(**json.loads(project))
    streams = told.streams()
    for stream in streams.values():
        stream.start()
    with Producer(told, streams) as producer:
        producer.put(int(frames))
        if how == "put":
            say("ready")
            while True:
                producer.put(1)
    say("ready")
    if how == "wait":
        while True:  # a signal that falls just before a wait without end would not be seen by Python until its end
            time.sleep(0.1)
    if how == "raise":
        raise RuntimeError("planted")


if __name__ == "__main__":
    main(*sys.argv[1:])
